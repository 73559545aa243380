// A stage that does what passes say, for tests of the head: page tables with the tokens that each
// page holds. What it answers depends on the tokens that its pages hold.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

#include "offload/kv/kv_pages.h"
#include "stage/page_ledger.h"
#include "stage/pass.h"

namespace sluice::support {

constexpr std::int32_t kPage = 4;
constexpr std::int32_t kLongest = 48;

/// What a sequence of these tokens is answered with.
inline std::int32_t next_token(const std::vector<std::int32_t>& tokens) {
  std::uint32_t hash = 17;
  for (const std::int32_t token : tokens) hash = hash * 31 + static_cast<std::uint32_t>(token);
  return static_cast<std::int32_t>(hash % 5);
}

inline offload::KvLayout paged_layout(const offload::Shares& shares, std::int32_t slots,
                                      std::int32_t pages) {
  offload::KvShape shape;
  shape.layers = shape.query_heads = shape.kv_heads = shape.head_dim = 1;
  shape.slots = slots;
  shape.tokens_per_slot = kLongest;
  shape.page_tokens = kPage;
  shape.pool_pages = {pages, pages, pages};
  offload::Policy policy;
  policy.cache = shares;
  return offload::KvLayout(shape, policy);
}

/// A stage that does what passes say.
class PagedStage {
 public:
  PagedStage(const offload::Shares& shares, std::int32_t slots, std::int32_t pages)
      : layout_(paged_layout(shares, slots, pages)),
        table_(layout_),
        lengths_(static_cast<std::size_t>(slots), 0) {
    for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
      held_[tier].resize(static_cast<std::size_t>(layout_.farthest().pool[tier]));
    }
  }

  stage::CacheRoom room(const offload::Shares& shares) const {
    return {shares, kPage, layout_.farthest().pool, kLongest / kPage, true};
  }

  /// Results as a model would give them that reads the cache.
  stage::PassResults apply(const stage::Pass& pass) {
    for (const std::int32_t slot : pass.freed) table_.give_back(slot);
    for (const std::int32_t prefix : pass.dropped) {
      table_.drop(prefix);
      EXPECT_EQ(prefixes_.erase(prefix), 1U);
    }
    for (const stage::PassRow& row : pass.rows) begin(row);
    stage::PassResults results;
    results.number = pass.number;
    results.micro_batch = pass.micro_batch;
    auto next = pass.tokens.begin();
    auto kept = pass.kept.begin();
    for (const stage::PassRow& row : pass.rows) {
      for (std::int32_t i = 0; i < row.new_tokens; ++i) write(row, i, *next++);
      if (row.sample) results.add(row.slot, -1, {next_token(tokens_of(row)), 0.0F, {}});
      for (std::int32_t i = 0; i < row.kept; ++i, ++kept) {
        table_.keep(row.slot, row.kept_from + i, *kept);
        EXPECT_TRUE(prefixes_.insert(*kept).second);
      }
    }
    return results;
  }

  /// Where no sequence is under way every page is free or a prefix's.
  void expect_no_page_lost() {
    std::int32_t free = 0;
    std::int32_t all = 0;
    for (const offload::Tier tier :
         {offload::Tier::device, offload::Tier::host, offload::Tier::disk}) {
      free += table_.free_pages(tier);
      all += layout_.pool_of(tier);
    }
    EXPECT_EQ(all - free, static_cast<std::int32_t>(prefixes_.size()));
  }
  void give_back(std::int32_t slot) { table_.give_back(slot); }

 private:
  void begin(const stage::PassRow& row) {
    std::int32_t& length = lengths_[static_cast<std::size_t>(row.slot)];
    EXPECT_EQ(row.starts, row.position == 0 || row.prefix >= 0 || row.copies());
    if (row.starts) {
      EXPECT_EQ(table_.count(row.slot), 0) << "its last sequence was not said to have ended";
      length = 0;
    }
    if (row.prefix >= 0) {
      table_.share(row.slot, row.prefix);
      length = table_.count(row.slot) * kPage;
    }
    if (row.copies()) length += row.position % kPage;
    EXPECT_EQ(length, row.position);
    length = row.position + row.new_tokens;
    table_.take(row.slot, length, row.total);
    if (row.copies()) copy_page(row);
  }
  void copy_page(const stage::PassRow& row) {
    const auto index = static_cast<std::size_t>(row.position / kPage);
    const offload::Tier tier = layout_.tiers[static_cast<std::size_t>(row.slot)];
    if (tier == offload::Tier::disk) {
      ASSERT_GE(row.copied_of_slot, 0) << "full pages are in the file";
      ASSERT_EQ(lengths_[static_cast<std::size_t>(row.copied_of_slot)] / kPage,
                row.position / kPage);
    }
    const std::int32_t from = row.copied_from >= 0 ? table_.last_page(row.copied_from, tier)
                                                   : pages_of(row.copied_of_slot)[index];
    auto& held = tier_of(row.slot);
    const auto& source = held[static_cast<std::size_t>(from)];
    const auto copied = static_cast<std::size_t>(row.position % kPage);
    ASSERT_GE(source.size(), copied);
    held[static_cast<std::size_t>(pages_of(row.slot)[index])].assign(
        source.begin(), source.begin() + static_cast<std::ptrdiff_t>(copied));
  }
  std::vector<std::int32_t> pages_of(std::int32_t slot) const {
    std::vector<std::int32_t> pages(static_cast<std::size_t>(table_.count(slot)));
    table_.list(slot, 0, pages);
    return pages;
  }
  std::vector<std::vector<std::int32_t>>& tier_of(std::int32_t slot) {
    return held_[static_cast<std::size_t>(layout_.tiers[static_cast<std::size_t>(slot)])];
  }
  void write(const stage::PassRow& row, std::int32_t i, std::int32_t token) {
    const std::int32_t position = row.position + i;
    const std::int32_t page = pages_of(row.slot)[static_cast<std::size_t>(position / kPage)];
    std::vector<std::int32_t>& held = tier_of(row.slot)[static_cast<std::size_t>(page)];
    held.resize(static_cast<std::size_t>(position % kPage));
    held.push_back(token);
  }
  std::vector<std::int32_t> tokens_of(const stage::PassRow& row) {
    std::vector<std::int32_t> tokens;
    for (const std::int32_t page : pages_of(row.slot)) {
      const auto& held = tier_of(row.slot)[static_cast<std::size_t>(page)];
      tokens.insert(tokens.end(), held.begin(), held.end());
    }
    EXPECT_EQ(tokens.size(), static_cast<std::size_t>(row.position + row.new_tokens));
    return tokens;
  }

  offload::KvLayout layout_;
  offload::KvPageTable table_;
  std::vector<std::int32_t> lengths_;
  offload::PerTier<std::vector<std::vector<std::int32_t>>> held_;  // tokens, by page
  std::set<std::int32_t> prefixes_;
};

}  // namespace sluice::support
