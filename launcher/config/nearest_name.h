// "Did you mean ...?": the known name that a mistyped one was most likely meant to be.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

/// The nearest of `known` by edits (insert, delete, replace, swap of neighbours), or the only one
/// that `name` begins; empty where none is near: more than a third of the letters differ.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

/// "; did you mean 'policy'?", or nothing.
std::string suggestion(std::string_view name, const std::vector<std::string>& known);

}  // namespace sluice::launcher
