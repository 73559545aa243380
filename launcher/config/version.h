// The version, as CMakeLists.txt has it (a test compares them).
#pragma once

namespace sluice::launcher {

constexpr const char* kVersion = "0.1.0";

}  // namespace sluice::launcher
