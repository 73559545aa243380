// The tokens of a model as grammars read them.
#pragma once

#include <cstdint>

#include "grammar/token_trie.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// What each token adds to a text that has begun; nothing for special tokens, which no grammar
/// allows. `vocabulary`: rows of the model's logits.
grammar::TokenTrie token_trie(const Tokenizer& tokenizer, std::int32_t vocabulary);

}  // namespace sluice::launcher
