// What an answer must look like, as users say it, to the program that the last stage obeys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grammar/program.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

// Each throws GrammarProblem. The programs have no end tokens yet.

/// Values of a JSON schema (json_schema.h).
grammar::Program schema_program(const Json& schema);
/// Any JSON object.
grammar::Program json_object_program();
/// Texts that the whole of a regular expression matches (pattern.h).
grammar::Program pattern_program(std::string_view pattern);
/// One of these texts.
grammar::Program choice_program(const std::vector<std::string>& choices);
/// A grammar in llama.cpp's notation (gbnf.h).
grammar::Program gbnf_program(std::string_view text);

}  // namespace sluice::launcher
