// What can be read of a line that is no JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// The custom_id of the line, where it says one, and only one, in plain sight.
std::optional<std::string> readable_custom_id(std::string_view line);

}  // namespace sluice::launcher
