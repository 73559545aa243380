#include "launcher/tokenizer/byte_pairs.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace sluice::launcher {
namespace {

constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

constexpr std::int32_t kNone = -1;

}  // namespace

/// A word while its pairs are merged: a linked list of tokens over its bytes.
class BytePairs::Word {
 public:
  Word(const BytePairs& pairs, std::string_view bytes) : pairs_(pairs) {
    nodes_.reserve(bytes.size());
    bool fusing = false;
    for (const char byte : bytes) {
      std::int32_t token = pairs.byte_tokens_[static_cast<unsigned char>(byte)];
      const bool unknown = token == kNone;
      if (unknown) token = pairs.options_.unknown;
      if (token != kNone && !(unknown && fusing)) append(token);
      fusing = unknown && pairs.options_.fuse_unknown;
    }
    if (!nodes_.empty()) nodes_.back().next = kNone;
    for (std::int32_t i = 0; i < count(); ++i) offer(i, candidates_);
  }

  /// With rounds, a new pair waits for the end of the round, even if its rank is lower.
  void merge_all() {
    std::vector<Candidate> fresh;
    while (!candidates_.empty()) {
      const std::int32_t rank = candidates_.top().rank;
      do {
        const Candidate candidate = candidates_.top();
        candidates_.pop();
        merge(candidate, fresh);
      } while (pairs_.options_.merge_in_rounds && !candidates_.empty() &&
               candidates_.top().rank == rank);
      for (const Candidate& candidate : fresh) candidates_.push(candidate);
      fresh.clear();
    }
  }

  void append_to(std::vector<std::int32_t>& tokens) const {
    for (std::int32_t i = nodes_.empty() ? kNone : 0; i != kNone; i = at(i).next) {
      tokens.push_back(at(i).token);
    }
  }

 private:
  struct Node {
    std::int32_t token;  // kNone: merged into the node before it
    std::int32_t previous;
    std::int32_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::int32_t node;  // the left one
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : node > other.node;
    }
  };
  using Queue = std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>>;

  std::int32_t count() const { return static_cast<std::int32_t>(nodes_.size()); }
  void append(std::int32_t token) { nodes_.push_back({token, count() - 1, count() + 1}); }
  Node& at(std::int32_t index) { return nodes_[static_cast<std::size_t>(index)]; }
  const Node& at(std::int32_t index) const { return nodes_[static_cast<std::size_t>(index)]; }

  const Merge* find(std::int32_t index) const {
    const Node& node = at(index);
    if (node.token == kNone || node.next == kNone) return nullptr;
    const auto found = pairs_.merges_.find(pair_key(node.token, at(node.next).token));
    return found == pairs_.merges_.end() ? nullptr : &found->second;
  }

  void offer(std::int32_t index, Queue& target) const {
    if (const Merge* found = find(index)) target.push({found->rank, index});
  }

  void merge(const Candidate& candidate, std::vector<Candidate>& fresh) {
    const Merge* found = find(candidate.node);
    if (found == nullptr || found->rank != candidate.rank) return;  // its pair is gone
    Node& left = at(candidate.node);
    const Node right = at(left.next);
    at(left.next).token = kNone;
    left.token = found->product;
    left.next = right.next;
    if (right.next != kNone) at(right.next).previous = candidate.node;
    if (const Merge* after = find(candidate.node)) fresh.push_back({after->rank, candidate.node});
    if (left.previous == kNone) return;
    if (const Merge* before = find(left.previous)) fresh.push_back({before->rank, left.previous});
  }

  const BytePairs& pairs_;
  std::vector<Node> nodes_;
  Queue candidates_;
};

bool BytePairs::add(std::int32_t left, std::int32_t right, std::int32_t product) {
  const auto rank = static_cast<std::int32_t>(merges_.size());
  return merges_.emplace(pair_key(left, right), Merge{rank, product}).second;
}

void BytePairs::append_tokens(std::string_view word, std::vector<std::int32_t>& tokens) const {
  if (word.empty()) return;
  Word pieces(*this, word);
  pieces.merge_all();
  pieces.append_to(tokens);
}

}  // namespace sluice::launcher
