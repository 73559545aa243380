#include "offload/kv/kv_pages.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::offload {

namespace {

/// The first of `count` free pages in a row; -1: there are not so many.
std::int32_t first_of_run(const std::vector<char>& used, std::int32_t count) {
  const auto pages = static_cast<std::int32_t>(used.size());
  std::int32_t run = 0;
  for (std::int32_t page = 0; page < pages; ++page) {
    run = used[static_cast<std::size_t>(page)] == 0 ? run + 1 : 0;
    if (run == count) return page - count + 1;
  }
  return -1;
}

}  // namespace

KvPageTable::KvPageTable(const KvLayout& layout, std::size_t reach)
    : layout_(layout),
      reach_(layout.reaches[reach]),
      owners_(static_cast<std::size_t>(layout.shape.slots)) {
  for (std::size_t tier = 0; tier < pools_.size(); ++tier) {
    const std::int32_t pages = reach_.pool[tier];
    pools_[tier].next.resize(static_cast<std::size_t>(pages), -1);
    pools_[tier].used.resize(static_cast<std::size_t>(pages), 0);
    pools_[tier].free = pages;
  }
}

void KvPageTable::take(std::int32_t slot, std::int32_t tokens) {
  const Tier tier = tier_of(slot);
  Pool& pool = pools_[static_cast<std::size_t>(tier)];
  Owner& owner = owners_[index_of(slot)];
  const std::int32_t filled = layout_.pages_for(tokens);
  const std::int32_t wanted = std::min(filled, reach_.pages_per_slot);
  if (owner.count != 0 || wanted > pool.free) {
    throw Error(
        ExitStatus::failure,
        fmt::format("KV cache: a sequence of {} tokens wants {} pages in slot {}, which has "
                    "{}; the {} tier has {} free of {} (a bug of sluice)",
                    tokens, wanted, slot, owner.count, name_of(tier), pool.free, pool.used.size()));
  }
  std::int32_t page = std::max(first_of_run(pool.used, wanted), 0);
  std::int32_t* link = &owner.first;
  for (; owner.count < wanted; ++page) {
    const auto index = static_cast<std::size_t>(page);
    if (pool.used[index] != 0) continue;
    pool.used[index] = 1;
    *link = page;
    link = &pool.next[index];
    ++owner.count;
  }
  *link = -1;
  owner.filled = filled;
  pool.free -= wanted;
}

void KvPageTable::give_back(std::int32_t slot) {
  Pool& pool = pools_[static_cast<std::size_t>(tier_of(slot))];
  Owner& owner = owners_[index_of(slot)];
  for (std::int32_t page = owner.first; page >= 0;
       page = pool.next[static_cast<std::size_t>(page)]) {
    pool.used[static_cast<std::size_t>(page)] = 0;
  }
  pool.free += owner.count;
  owner = {};
}

void KvPageTable::list(std::int32_t slot, std::int32_t first,
                       std::span<std::int32_t> target) const {
  if (target.empty()) return;
  const Pool& pool = pool_of(tier_of(slot));
  const Owner& owner = owners_[index_of(slot)];
  std::int32_t page = owner.first;
  const auto go_on = [&] { page = pool.next[static_cast<std::size_t>(page)]; };
  for (std::int32_t i = 0; i < first % owner.count; ++i) go_on();
  for (std::int32_t& number : target) {
    if (page < 0) page = owner.first;
    number = page;
    go_on();
  }
}

}  // namespace sluice::offload
