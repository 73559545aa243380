// What a request says of single tokens: biases, sequences that may not come, tokens that end the
// answer. It travels once, in the pass in which the sequence starts, as a list of numbers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::stage {

/// Most numbers that the rules of a request may take.
constexpr std::int32_t kMaxRuleWords = 2048;

struct TokenBias {
  std::int32_t token = 0;
  float bias = 0.0F;  // finite; added to the logit
};

struct TokenRules {
  std::vector<TokenBias> biases;                  // OpenAI's logit_bias; a token once at most
  std::vector<std::vector<std::int32_t>> banned;  // bad_words; none empty
  std::vector<std::int32_t> ends;                 // ruled out before Sampling::min_tokens

  bool empty() const { return biases.empty() && banned.empty() && ends.empty(); }
};

/// The rules as numbers: none where they are empty.
std::vector<std::int32_t> encode(const TokenRules& rules);

/// Rules that lie in memory as encode() wrote them. The memory must outlive it.
class TokenRuleView {
 public:
  TokenRuleView() = default;
  /// Pre: are_rules(words, ...).
  explicit TokenRuleView(std::span<const std::int32_t> words);

  bool empty() const { return biases_.empty() && banned_.empty() && ends_.empty(); }
  std::int32_t bias_count() const { return static_cast<std::int32_t>(biases_.size()) / 2; }
  TokenBias bias(std::int32_t index) const;
  std::span<const std::int32_t> ends() const { return ends_; }

  /// visit(sequence) for each that is banned.
  template <class Visitor>
  void for_each_banned(const Visitor& visit) const {
    for (std::size_t at = 0; at < banned_.size();) {
      const auto size = static_cast<std::size_t>(banned_[at]);
      visit(banned_.subspan(at + 1, size));
      at += 1 + size;
    }
  }

 private:
  std::span<const std::int32_t> biases_;  // token, bits of the bias, ...
  std::span<const std::int32_t> banned_;  // size, tokens, ...
  std::span<const std::int32_t> ends_;
};

/// Whether encode() may have written these, for a model of so many tokens.
bool are_rules(std::span<const std::int32_t> words, std::int32_t vocabulary);

}  // namespace sluice::stage
