// The help texts. Flags of `generate` are grouped here; what each means comes from the schema.
#pragma once

#include <string>
#include <vector>

namespace sluice::launcher {

std::string main_help();
std::string generate_help();
std::string inspect_help();
std::string tokenize_help();

/// Every flag that generate_help() shows, in its order; for the test that none is missing.
std::vector<std::string> flags_in_help();

}  // namespace sluice::launcher
