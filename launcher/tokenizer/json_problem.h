// JSON errors as part of a sentence.
#pragma once

#include <string>
#include <string_view>

namespace sluice::launcher {

/// What the JSON library's exception says, without the library's own prefix.
std::string json_problem(std::string_view what);

}  // namespace sluice::launcher
