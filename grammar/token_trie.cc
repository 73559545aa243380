#include "grammar/token_trie.h"

#include <algorithm>
#include <numeric>
#include <string_view>

namespace sluice::grammar {
namespace {

std::size_t at(std::int32_t index) { return static_cast<std::size_t>(index); }

void set_bit(std::span<std::uint32_t> mask, std::int32_t token) {
  mask[at(token) / 32] |= 1U << (at(token) % 32);
}

/// Bytes that two texts begin with alike.
std::size_t common_bytes(std::string_view a, std::string_view b) {
  const auto [first, second] = std::ranges::mismatch(a, b);
  return static_cast<std::size_t>(first - a.begin());
}

}  // namespace

TokenTrie::TokenTrie(std::vector<std::string> tokens) {
  first_byte_.push_back(0);
  for (const std::string& token : tokens) {
    bytes_.insert(bytes_.end(), token.begin(), token.end());
    first_byte_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  sorted_.resize(tokens.size());
  std::iota(sorted_.begin(), sorted_.end(), 0);
  std::erase_if(sorted_, [&](std::int32_t id) { return tokens[at(id)].empty(); });
  std::ranges::stable_sort(sorted_, {},
                           [&](std::int32_t id) -> const std::string& { return tokens[at(id)]; });
  std::vector<std::int32_t> open;  // the nodes that the last token's bytes lead through
  std::string_view before;
  const auto close = [&](std::size_t depth) {
    for (; open.size() > depth; open.pop_back()) {
      nodes_[at(open.back())].behind = static_cast<std::int32_t>(nodes_.size());
    }
  };
  for (std::size_t i = 0; i < sorted_.size(); ++i) {
    const std::string& token = tokens[at(sorted_[i])];
    close(common_bytes(before, token));
    for (std::size_t depth = open.size(); depth < token.size(); ++depth) {
      Node node;
      node.byte = static_cast<std::uint8_t>(token[depth]);
      node.depth = static_cast<std::int32_t>(depth);
      node.first_token = static_cast<std::int32_t>(i);
      open.push_back(static_cast<std::int32_t>(nodes_.size()));
      nodes_.push_back(node);
    }
    ++nodes_[at(open.back())].token_count;
    before = token;
    deepest_ = std::max(deepest_, token.size());
  }
  close(0);
}

std::span<const std::uint8_t> TokenTrie::bytes_of(std::int32_t token) const {
  const std::size_t begin = first_byte_[at(token)];
  return std::span(bytes_).subspan(begin, first_byte_[at(token) + 1] - begin);
}

Matcher::State TokenTrie::next(Matcher& matcher, Matcher::State state, std::int32_t token) const {
  const std::span<const std::uint8_t> bytes = bytes_of(token);
  if (bytes.empty()) return Matcher::kDead;
  for (const std::uint8_t byte : bytes) state = matcher.next(state, byte);
  return state;
}

bool TokenTrie::allowed(Matcher& matcher, Matcher::State state,
                        std::span<std::uint32_t> mask) const {
  std::ranges::fill(mask, 0);
  bool any = false;
  std::vector<Matcher::State> states(deepest_ + 1);  // by depth: before the byte there
  states[0] = state;
  const auto count = static_cast<std::int32_t>(nodes_.size());
  for (std::int32_t i = state < 0 || matcher.must_end(state) ? count : 0; i < count;) {
    const Node& node = nodes_[at(i)];
    const Matcher::State behind = matcher.next(states[at(node.depth)], node.byte);
    if (behind < 0) {
      i = node.behind;
      continue;
    }
    states[at(node.depth) + 1] = behind;
    for (std::int32_t k = 0; k < node.token_count; ++k) {
      set_bit(mask, sorted_[at(node.first_token + k)]);
      any = true;
    }
    ++i;
  }
  for (const std::int32_t end : matcher.program().end_tokens) {
    if (end < 0 || end >= vocabulary()) continue;
    const std::uint32_t bit = 1U << (at(end) % 32);
    mask[at(end) / 32] &= ~bit;
    if (!matcher.may_end(state)) continue;
    mask[at(end) / 32] |= bit;
    any = true;
  }
  return any;
}

std::size_t TokenTrie::memory_bytes() const {
  return bytes_.size() + first_byte_.size() * sizeof(std::uint32_t) + nodes_.size() * sizeof(Node) +
         sorted_.size() * sizeof(std::int32_t);
}

}  // namespace sluice::grammar
