#include "stage/token_rules.h"

#include <algorithm>
#include <bit>

namespace sluice::stage {

namespace {

// Three numbers first: of the words of biases, of banned sequences, and of ends.
constexpr std::size_t kPreamble = 3;

bool are_tokens(std::span<const std::int32_t> tokens, std::int32_t vocabulary) {
  return std::ranges::all_of(
      tokens, [vocabulary](std::int32_t token) { return token >= 0 && token < vocabulary; });
}

bool are_biases(std::span<const std::int32_t> words, std::int32_t vocabulary) {
  if (words.size() % 2 != 0) return false;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    if (!are_tokens(words.subspan(i, 1), vocabulary)) return false;
  }
  return true;
}

bool are_banned(std::span<const std::int32_t> words, std::int32_t vocabulary) {
  while (!words.empty()) {
    const std::int32_t size = words.front();
    words = words.subspan(1);
    if (size < 1 || static_cast<std::size_t>(size) > words.size()) return false;
    if (!are_tokens(words.first(static_cast<std::size_t>(size)), vocabulary)) return false;
    words = words.subspan(static_cast<std::size_t>(size));
  }
  return true;
}

}  // namespace

std::vector<std::int32_t> encode(const TokenRules& rules) {
  if (rules.empty()) return {};
  std::vector<std::int32_t> words(kPreamble);
  for (const TokenBias& one : rules.biases) {
    words.insert(words.end(), {one.token, std::bit_cast<std::int32_t>(one.bias)});
  }
  words[0] = static_cast<std::int32_t>(words.size() - kPreamble);
  for (const std::vector<std::int32_t>& sequence : rules.banned) {
    words.push_back(static_cast<std::int32_t>(sequence.size()));
    words.insert(words.end(), sequence.begin(), sequence.end());
  }
  words[1] = static_cast<std::int32_t>(words.size() - kPreamble) - words[0];
  words.insert(words.end(), rules.ends.begin(), rules.ends.end());
  words[2] = static_cast<std::int32_t>(rules.ends.size());
  return words;
}

TokenRuleView::TokenRuleView(std::span<const std::int32_t> words) {
  if (words.empty()) return;
  const auto biases = static_cast<std::size_t>(words[0]);
  const auto banned = static_cast<std::size_t>(words[1]);
  biases_ = words.subspan(kPreamble, biases);
  banned_ = words.subspan(kPreamble + biases, banned);
  ends_ = words.subspan(kPreamble + biases + banned, static_cast<std::size_t>(words[2]));
}

TokenBias TokenRuleView::bias(std::int32_t index) const {
  const auto at = static_cast<std::size_t>(index) * 2;
  return {biases_[at], std::bit_cast<float>(biases_[at + 1])};
}

bool are_rules(std::span<const std::int32_t> words, std::int32_t vocabulary) {
  if (words.empty()) return true;
  if (words.size() < kPreamble) return false;
  std::size_t left = words.size() - kPreamble;
  for (const std::int32_t count : words.first(kPreamble)) {
    if (count < 0 || static_cast<std::size_t>(count) > left) return false;
    left -= static_cast<std::size_t>(count);
  }
  if (left != 0) return false;
  const auto biases = static_cast<std::size_t>(words[0]);
  const auto banned = static_cast<std::size_t>(words[1]);
  return are_biases(words.subspan(kPreamble, biases), vocabulary) &&
         are_banned(words.subspan(kPreamble + biases, banned), vocabulary) &&
         are_tokens(words.subspan(kPreamble + biases + banned), vocabulary);
}

}  // namespace sluice::stage
