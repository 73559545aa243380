// Which beginnings of sequences the KV caches hold: a tree of full pages, found by their tokens.
// The head keeps it; stages hold the pages (offload/kv/kv_pages.h) and do what passes say.
//
// A prefix is a path from a root to a page. There is a root for each kind of sequence: prefixes of
// different kinds are not the same (another home tier on some stage, other rotary frequencies).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::stage {

class PrefixTree {
 public:
  static constexpr std::int32_t kNone = -1;

  /// Of at most `pages` pages; nothing is allocated afterwards. 0: it never holds any.
  explicit PrefixTree(std::int32_t pages = 0, std::int32_t page_tokens = 1);

  static std::uint64_t bytes_per_page(std::int32_t page_tokens) {
    // A node, its tokens, at most four buckets of each sort, and a place in the head's list of
    // dropped ones.
    return sizeof(Node) + (static_cast<std::uint64_t>(page_tokens) + 9) * sizeof(std::int32_t);
  }

  bool is_on() const { return !nodes_.empty(); }
  std::int32_t page_tokens() const { return page_tokens_; }

  /// The page of these tokens [page_tokens] behind `parent`, or kNone. Below 0 `parent` is a root:
  /// the page is the first of a sequence of this kind.
  std::int32_t find(std::int32_t parent, std::int32_t kind, const std::int32_t* tokens) const;
  struct Part {
    std::int32_t page = kNone;
    std::int32_t tokens = 0;  // its first ones, that are alike
  };
  /// The page behind `parent` that has most of its first tokens in common with `tokens` [most].
  /// Pre: most > 0. Of very many that begin with the same token it looks at those added last.
  Part find_part(std::int32_t parent, std::int32_t kind, const std::int32_t* tokens,
                 std::int32_t most) const;
  /// Adds one that is not there, with one user. Pre: fewer than `pages` are there.
  std::int32_t add(std::int32_t parent, std::int32_t kind, const std::int32_t* tokens);

  /// A sequence has it, or has it no more. To be called for every page of the path: of a path that
  /// is left from its end. A page without users is idle, and stays until evict(). use() returns
  /// whether it was idle, leave() whether it is now.
  bool use(std::int32_t page);
  bool leave(std::int32_t page);

  struct Evicted {
    std::int32_t page = kNone;
    std::int32_t kind = 0;
  };
  /// Removes the idle page of one of these kinds that was left longest ago and that none follows.
  /// `kinds`: by kind. Pre: one of them has an idle page.
  Evicted evict(std::span<const char> kinds);

 private:
  struct Node {
    std::int32_t parent = kNone;
    std::int32_t kind = 0;
    std::int32_t users = 0;
    std::int32_t children = 0;
    std::int32_t next = kNone;                   // of the same bucket; of free nodes: the next one
    std::int32_t next_alike = kNone;             // of the same bucket of `first_tokens_`
    std::int32_t before = kNone, after = kNone;  // in the list of those that may be evicted
    bool is_listed = false;
    std::uint64_t left = 0;  // when its last user left, counted
  };

  Node& node(std::int32_t page) { return nodes_[static_cast<std::size_t>(page)]; }
  const Node& node(std::int32_t page) const { return nodes_[static_cast<std::size_t>(page)]; }
  const std::int32_t* tokens_of(std::int32_t page) const {
    return tokens_.data() + static_cast<std::size_t>(page) * static_cast<std::size_t>(page_tokens_);
  }
  std::size_t bucket_of(std::int32_t parent, std::int32_t kind,
                        std::span<const std::int32_t> tokens) const;
  std::span<const std::int32_t> page_at(const std::int32_t* tokens) const {
    return {tokens, static_cast<std::size_t>(page_tokens_)};
  }
  void list(std::int32_t page);
  void unlist(std::int32_t page);
  void remove(std::int32_t page);

  std::int32_t page_tokens_;
  std::vector<Node> nodes_;
  std::vector<std::int32_t> tokens_;        // [nodes, page_tokens]
  std::vector<std::int32_t> buckets_;       // a power of two: the first of each; kNone
  std::vector<std::int32_t> first_tokens_;  // likewise, by parent and first token alone
  std::int32_t first_free_ = kNone;
  std::int32_t oldest_ = kNone, newest_ = kNone;  // of the list
  std::uint64_t leavings_ = 0;
};

}  // namespace sluice::stage
