// The bytes of a model's tokens as a tree, so that a grammar reads what many tokens begin with
// once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "grammar/matcher.h"

namespace sluice::grammar {

/// Bit t % 32 of word t / 32 says that token t is allowed.
using Mask = std::vector<std::uint32_t>;

class TokenTrie {
 public:
  /// By id: the bytes that the token adds to a text. A token of no bytes is never allowed, so leave
  /// those empty that no answer may have.
  explicit TokenTrie(std::vector<std::string> tokens);

  std::int32_t vocabulary() const { return static_cast<std::int32_t>(first_byte_.size()) - 1; }
  std::size_t mask_words() const { return (first_byte_.size() - 1 + 31) / 32; }
  std::span<const std::uint8_t> bytes_of(std::int32_t token) const;

  /// The state behind a token; kDead where the grammar does not allow it.
  Matcher::State next(Matcher& matcher, Matcher::State state, std::int32_t token) const;

  /// Sets `mask`, [mask_words()], to the tokens that may follow in `state`, end tokens included.
  /// Returns whether there is one.
  bool allowed(Matcher& matcher, Matcher::State state, std::span<std::uint32_t> mask) const;

  std::size_t memory_bytes() const;

 private:
  /// Nodes lie in the order of their texts, each before those that it begins.
  struct Node {
    std::uint8_t byte = 0;
    std::int32_t depth = 0;        // bytes before this one
    std::int32_t behind = 0;       // the next node that this one does not begin
    std::int32_t first_token = 0;  // in sorted_
    std::int32_t token_count = 0;
  };

  std::vector<std::uint8_t> bytes_;        // of all tokens
  std::vector<std::uint32_t> first_byte_;  // by id; one more than there are ids
  std::vector<Node> nodes_;
  std::vector<std::int32_t> sorted_;  // ids in the order of their bytes
  std::size_t deepest_ = 0;
};

}  // namespace sluice::grammar
