// Grammars in llama.cpp's notation, GBNF.
//   root ::= item+        rules; "root" is the whole text
//   item ::= "- " [^\n]+ "\n" | (letter digit{2,3})?
//   # a comment
// Texts and classes have the escapes \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH.
// Rules may call themselves, but not before they have read something. Tokens (<...>, <[id]>) are
// refused.
// Source: llama.cpp, grammars/README.md and src/llama-grammar.cpp.
#pragma once

#include <string_view>

#include "grammar/builder.h"

namespace sluice::launcher {

/// The rule "root" of `text`, valid UTF-8. Throws GrammarProblem.
grammar::Rule gbnf_rule(std::string_view text, grammar::Builder& builder);

}  // namespace sluice::launcher
