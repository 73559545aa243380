#include "launcher/structured/token_bytes.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace sluice::launcher {

grammar::TokenTrie token_trie(const Tokenizer& tokenizer, std::int32_t vocabulary) {
  std::vector<std::string> tokens(static_cast<std::size_t>(vocabulary));
  const std::int32_t unknown = tokenizer.vocabulary().unknown;
  for (std::int32_t id = 0; id < std::min(vocabulary, tokenizer.table_size()); ++id) {
    const bool special = tokenizer.is_special(id) || id == tokenizer.bos() ||
                         id == tokenizer.eos() || id == tokenizer.pad() || id == unknown;
    if (!special && tokenizer.has_token(id)) {
      tokens[static_cast<std::size_t>(id)] = tokenizer.token_bytes(id);
    }
  }
  return grammar::TokenTrie(std::move(tokens));
}

}  // namespace sluice::launcher
