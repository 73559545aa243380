#include "stage/prefix_tree.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace sluice::stage {

namespace {

/// Pages that begin with the same token, of which find_part() takes the best.
constexpr int kMostLookedAt = 256;

}  // namespace

PrefixTree::PrefixTree(std::int32_t pages, std::int32_t page_tokens)
    : page_tokens_(page_tokens),
      nodes_(static_cast<std::size_t>(pages)),
      tokens_(nodes_.size() * static_cast<std::size_t>(page_tokens)),
      buckets_(std::bit_ceil(2 * nodes_.size() + 1), kNone),
      first_tokens_(buckets_) {
  for (std::int32_t page = pages - 1; page >= 0; --page) {
    node(page).next = first_free_;
    first_free_ = page;
  }
}

std::size_t PrefixTree::bucket_of(std::int32_t parent, std::int32_t kind,
                                  std::span<const std::int32_t> tokens) const {
  // A parent stands for all tokens before.
  const std::uint64_t seed =
      std::uint64_t{static_cast<std::uint32_t>(parent)} << 32 | static_cast<std::uint32_t>(kind);
  const std::uint64_t hash = XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), seed);
  return static_cast<std::size_t>(hash) & (buckets_.size() - 1);
}

std::int32_t PrefixTree::find(std::int32_t parent, std::int32_t kind,
                              const std::int32_t* tokens) const {
  if (nodes_.empty()) return kNone;
  std::int32_t page = buckets_[bucket_of(parent, kind, page_at(tokens))];
  for (; page != kNone; page = node(page).next) {
    const Node& found = node(page);
    if (found.parent == parent && found.kind == kind &&
        std::equal(tokens, tokens + page_tokens_, tokens_of(page))) {
      break;
    }
  }
  return page;
}

PrefixTree::Part PrefixTree::find_part(std::int32_t parent, std::int32_t kind,
                                       const std::int32_t* tokens, std::int32_t most) const {
  Part best;
  if (nodes_.empty()) return best;
  std::int32_t page = first_tokens_[bucket_of(parent, kind, {tokens, 1})];
  for (int left = kMostLookedAt; page != kNone && left > 0; page = node(page).next_alike, --left) {
    const Node& found = node(page);
    if (found.parent != parent || found.kind != kind) continue;
    const auto end = std::mismatch(tokens, tokens + std::min(most, page_tokens_), tokens_of(page));
    const auto common = static_cast<std::int32_t>(end.first - tokens);
    if (common > best.tokens) best = {page, common};
    if (common == most) break;
  }
  return best;
}

std::int32_t PrefixTree::add(std::int32_t parent, std::int32_t kind, const std::int32_t* tokens) {
  const std::int32_t page = first_free_;
  first_free_ = node(page).next;
  std::int32_t& bucket = buckets_[bucket_of(parent, kind, page_at(tokens))];
  std::int32_t& alike = first_tokens_[bucket_of(parent, kind, {tokens, 1})];
  Node& added = node(page);
  added = {};
  added.parent = parent;
  added.kind = kind;
  added.users = 1;
  added.next = std::exchange(bucket, page);
  added.next_alike = std::exchange(alike, page);
  std::copy_n(tokens, page_tokens_,
              tokens_.begin() + std::ptrdiff_t{page} * std::ptrdiff_t{page_tokens_});
  if (parent >= 0) {
    ++node(parent).children;
    unlist(parent);
  }
  return page;
}

bool PrefixTree::use(std::int32_t page) {
  unlist(page);
  return node(page).users++ == 0;
}

bool PrefixTree::leave(std::int32_t page) {
  Node& used = node(page);
  if (--used.users > 0) return false;
  used.left = ++leavings_;
  if (used.children == 0) list(page);
  return true;
}

PrefixTree::Evicted PrefixTree::evict(std::span<const char> kinds) {
  std::int32_t page = oldest_;
  while (kinds[static_cast<std::size_t>(node(page).kind)] == 0) page = node(page).after;
  const Evicted evicted{page, node(page).kind};
  remove(page);
  return evicted;
}

/// Those that were left last stand last: a search from there is short for a page that was left just
/// now, and one from the front for the parent of one that was left long ago.
void PrefixTree::list(std::int32_t page) {
  Node& listed = node(page);
  std::int32_t after = kNone;
  if (newest_ != kNone && node(newest_).left > listed.left) {
    after = oldest_;
    while (node(after).left < listed.left) after = node(after).after;
  }
  const std::int32_t before = after == kNone ? newest_ : node(after).before;
  listed.before = before;
  listed.after = after;
  listed.is_listed = true;
  (before == kNone ? oldest_ : node(before).after) = page;
  (after == kNone ? newest_ : node(after).before) = page;
}

void PrefixTree::unlist(std::int32_t page) {
  Node& listed = node(page);
  if (!listed.is_listed) return;
  listed.is_listed = false;
  (listed.before == kNone ? oldest_ : node(listed.before).after) = listed.after;
  (listed.after == kNone ? newest_ : node(listed.after).before) = listed.before;
}

/// Pre: no page follows it, and no sequence begins with it.
void PrefixTree::remove(std::int32_t page) {
  unlist(page);
  Node& removed = node(page);
  const std::span<const std::int32_t> tokens = page_at(tokens_of(page));
  std::int32_t* link = &buckets_[bucket_of(removed.parent, removed.kind, tokens)];
  while (*link != page) link = &node(*link).next;
  *link = removed.next;
  link = &first_tokens_[bucket_of(removed.parent, removed.kind, tokens.first(1))];
  while (*link != page) link = &node(*link).next_alike;
  *link = removed.next_alike;
  if (removed.parent >= 0) {
    Node& parent = node(removed.parent);
    if (--parent.children == 0 && parent.users == 0) list(removed.parent);
  }
  removed.next = first_free_;
  first_free_ = page;
}

}  // namespace sluice::stage
