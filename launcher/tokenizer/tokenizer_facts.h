// What was read of a tokenizer's files, for people.
#pragma once

#include <string>

#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// One line: "byte-level BPE of 50265 tokens, from tokenizer.json".
std::string tokenizer_line(const Tokenizer& tokenizer);

/// Kind, files, normalizer, pattern, decoder, the tokens around a text and the added tokens: a line
/// each, as `sluice tokenize --explain` prints them.
std::string explain_tokenizer(const Tokenizer& tokenizer);

}  // namespace sluice::launcher
