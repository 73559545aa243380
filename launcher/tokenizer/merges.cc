#include "launcher/tokenizer/merges.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <queue>

namespace sluice::launcher {
namespace {

constexpr std::uint64_t joined(std::int32_t high, std::int32_t low) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32 |
         static_cast<std::uint32_t>(low);
}

constexpr std::size_t kFew = 48;  // up to so many tokens a queue costs more than it saves

}  // namespace

bool Merges::add(std::int32_t left, std::int32_t right, std::int32_t product, bool same_rank) {
  const std::uint64_t pair = joined(left, right);
  const bool fresh = pairs_.find(pair) == nullptr;
  if (!same_rank) ++last_rank_;
  pairs_.put(pair, joined(last_rank_, product));
  return fresh;
}

Merges::Merge Merges::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t* found = pairs_.find(joined(left, right));
  if (found == nullptr) return {};
  return {static_cast<std::int32_t>(*found >> 32), static_cast<std::int32_t>(*found & 0xFFFFFFFFU)};
}

/// Many tokens while they are merged: a linked list, and a queue of the pairs that have a merge.
class Merges::Chain {
 public:
  Chain(const Merges& merges, std::vector<std::int32_t>& tokens) : merges_(merges) {
    nodes_.reserve(tokens.size());
    for (const std::int32_t token : tokens) nodes_.push_back({token, count() - 1, count() + 1});
    nodes_.back().next = kNone;
    std::vector<std::uint64_t> candidates;
    candidates.reserve(tokens.size());
    for (std::int32_t i = 0; i < count(); ++i) {
      if (const std::uint64_t candidate = candidate_at(i); candidate != kNothing) {
        candidates.push_back(candidate);
      }
    }
    candidates_ = Queue(std::greater<>(), std::move(candidates));
  }

  /// With rounds, a new pair waits for the end of the round, even if its rank is lower.
  void merge_all(bool in_rounds) {
    std::vector<std::uint64_t> fresh;
    while (!candidates_.empty()) {
      const std::uint64_t rank = candidates_.top() >> 32;
      do {
        const std::uint64_t candidate = candidates_.top();
        candidates_.pop();
        merge(candidate, fresh);
      } while (in_rounds && !candidates_.empty() && candidates_.top() >> 32 == rank);
      for (const std::uint64_t candidate : fresh) candidates_.push(candidate);
      fresh.clear();
    }
  }

  void copy_to(std::vector<std::int32_t>& tokens) const {
    tokens.clear();
    for (std::int32_t i = 0; i != kNone; i = at(i).next) tokens.push_back(at(i).token);
  }

 private:
  struct Node {
    std::int32_t token;  // kNone: merged into the node before it
    std::int32_t previous;
    std::int32_t next;
  };
  using Queue = std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>>;
  static constexpr std::uint64_t kNothing = ~std::uint64_t{0};

  std::int32_t count() const { return static_cast<std::int32_t>(nodes_.size()); }
  Node& at(std::int32_t index) { return nodes_[static_cast<std::size_t>(index)]; }
  const Node& at(std::int32_t index) const { return nodes_[static_cast<std::size_t>(index)]; }

  Merge find(std::int32_t index) const {
    const Node& node = at(index);
    if (node.token == kNone || node.next == kNone) return {};
    return merges_.find(node.token, at(node.next).token);
  }

  /// The pair that begins at a node, as rank << 32 | node: the least comes first.
  std::uint64_t candidate_at(std::int32_t index) const {
    const Merge found = find(index);
    return found.rank == kNone ? kNothing : joined(found.rank, index);
  }

  void merge(std::uint64_t candidate, std::vector<std::uint64_t>& fresh) {
    const auto index = static_cast<std::int32_t>(candidate & 0xFFFFFFFFU);
    const Merge found = find(index);
    if (found.rank == kNone || joined(found.rank, index) != candidate) return;  // its pair is gone
    Node& left = at(index);
    const Node right = at(left.next);
    at(left.next).token = kNone;
    left.token = found.product;
    left.next = right.next;
    if (right.next != kNone) at(right.next).previous = index;
    const auto offer = [&](std::int32_t node) {
      if (const std::uint64_t made = candidate_at(node); made != kNothing) fresh.push_back(made);
    };
    offer(index);
    if (left.previous != kNone) offer(left.previous);
  }

  const Merges& merges_;
  std::vector<Node> nodes_;
  Queue candidates_;
};

void Merges::apply_to_few(std::vector<std::int32_t>& tokens, bool in_rounds) const {
  std::array<Merge, kFew> merges;  // of each token with the next one
  std::size_t count = tokens.size();
  const auto look_up = [&](std::size_t i) {
    merges[i] = i + 1 < count ? find(tokens[i], tokens[i + 1]) : Merge();
  };
  const auto merge_at = [&](std::size_t i) {
    tokens[i] = merges[i].product;
    std::copy(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 2,
              tokens.begin() + static_cast<std::ptrdiff_t>(count),
              tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    std::copy(merges.begin() + i + 2, merges.begin() + count, merges.begin() + i + 1);
    --count;
  };
  for (std::size_t i = 0; i < count; ++i) look_up(i);
  while (true) {
    std::int32_t rank = std::numeric_limits<std::int32_t>::max();
    std::size_t first = count;
    for (std::size_t i = 0; i + 1 < count; ++i) {
      if (merges[i].rank == kNone || merges[i].rank >= rank) continue;
      rank = merges[i].rank;
      first = i;
    }
    if (first == count) break;
    if (!in_rounds) {
      merge_at(first);
      look_up(first);
      if (first > 0) look_up(first - 1);
      continue;
    }
    for (std::size_t i = first; i + 1 < count; ++i) {
      if (merges[i].rank != rank) continue;
      merge_at(i);
      merges[i] = {};  // what it makes with its neighbours waits for the next round
      if (i > 0) merges[i - 1] = {};
    }
    for (std::size_t i = 0; i < count; ++i) look_up(i);
  }
  tokens.resize(count);
}

void Merges::apply(std::vector<std::int32_t>& tokens, bool in_rounds) const {
  if (tokens.size() < 2) return;
  if (tokens.size() <= kFew) {
    apply_to_few(tokens, in_rounds);
    return;
  }
  Chain chain(*this, tokens);
  chain.merge_all(in_rounds);
  chain.copy_to(tokens);
}

}  // namespace sluice::launcher
