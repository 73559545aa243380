#include "launcher/generate/alike_tokens.h"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_map>

namespace sluice::launcher {

std::vector<std::int32_t> alike_tokens(const Tokenizer& tokenizer, std::int32_t vocabulary) {
  std::vector<std::int32_t> alike(static_cast<std::size_t>(vocabulary));
  std::iota(alike.begin(), alike.end(), 0);
  std::unordered_map<std::string_view, std::int32_t> first;
  for (std::int32_t id = 0; id < std::min(vocabulary, tokenizer.size()); ++id) {
    if (!tokenizer.has_token(id) || tokenizer.is_special(id)) continue;
    std::string_view text = tokenizer.token_bytes(id);
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    if (!text.empty()) alike[static_cast<std::size_t>(id)] = first.emplace(text, id).first->second;
  }
  return alike;
}

}  // namespace sluice::launcher
