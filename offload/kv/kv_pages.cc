#include "offload/kv/kv_pages.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::offload {

namespace {

/// The first of `count` pages in a row that are free for anybody; -1: there are not so many.
std::int32_t first_of_run(const std::vector<std::int32_t>& users,
                          const std::vector<std::int32_t>& kept_for, std::int32_t count) {
  const auto pages = static_cast<std::int32_t>(users.size());
  std::int32_t run = 0;
  for (std::int32_t page = 0; page < pages; ++page) {
    const auto index = static_cast<std::size_t>(page);
    run = users[index] == 0 && kept_for[index] < 0 ? run + 1 : 0;
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
    pools_[tier].previous.resize(static_cast<std::size_t>(pages), -1);
    pools_[tier].users.resize(static_cast<std::size_t>(pages), 0);
    pools_[tier].kept_for.resize(static_cast<std::size_t>(pages), -1);
    pools_[tier].free = pages;
  }
  if (reach_.window == 0) prefixes_.resize(static_cast<std::size_t>(layout.most_prefixes()));
}

void KvPageTable::take(std::int32_t slot, std::int32_t tokens, std::int32_t most) {
  const Tier tier = tier_of(slot);
  Pool& pool = pools_[static_cast<std::size_t>(tier)];
  Owner& owner = owners_[index_of(slot)];
  const std::int32_t wanted = std::min(layout_.pages_for(tokens), reach_.pages_per_slot);
  if (wanted - owner.count > pool.free) {
    throw Error(
        ExitStatus::failure,
        fmt::format("KV cache: a sequence of {} tokens wants {} pages in slot {}, which has "
                    "{}; the {} tier has {} free of {} (a bug of sluice)",
                    tokens, wanted, slot, owner.count, name_of(tier), pool.free,
                    pool.users.size()));
  }
  if (owner.next < 0 && wanted > owner.count) {
    const std::int32_t longest = layout_.pages_for(std::max(tokens, most));
    start_run(slot, std::min(longest, reach_.pages_per_slot) - owner.count, wanted - owner.count);
  }
  for (; owner.count < wanted; ++owner.count) {
    const std::int32_t page = next_page(slot);
    const auto index = static_cast<std::size_t>(page);
    pool.users[index] = 1;
    pool.kept_for[index] = -1;
    pool.previous[index] = owner.last;
    owner.last = page;
    owner.next = page + 1;
    --pool.free;
  }
}

/// Keeps a run of `pages` for a slot that has none, or where there is none of these one of
/// `wanted`.
void KvPageTable::start_run(std::int32_t slot, std::int32_t pages, std::int32_t wanted) {
  Pool& pool = pools_[static_cast<std::size_t>(tier_of(slot))];
  std::int32_t count = pages;
  std::int32_t first = first_of_run(pool.users, pool.kept_for, count);
  if (first < 0) first = first_of_run(pool.users, pool.kept_for, count = wanted);
  if (first < 0) return;
  for (std::int32_t page = first; page < first + count; ++page) {
    pool.kept_for[static_cast<std::size_t>(page)] = slot;
  }
  Owner& owner = owners_[index_of(slot)];
  owner.run_first = owner.next = first;
  owner.run_end = first + count;
}

/// A free page: the neighbour of the last one, else the lowest that is kept for nobody else, else
/// the lowest.
std::int32_t KvPageTable::next_page(std::int32_t slot) const {
  const Pool& pool = pool_of(tier_of(slot));
  const Owner& owner = owners_[index_of(slot)];
  const auto pages = static_cast<std::int32_t>(pool.users.size());
  const auto is_for_it = [&](std::int32_t page) {
    const auto index = static_cast<std::size_t>(page);
    return pool.users[index] == 0 && (pool.kept_for[index] < 0 || pool.kept_for[index] == slot);
  };
  if (owner.next >= 0 && owner.next < pages && is_for_it(owner.next)) return owner.next;
  std::int32_t lowest = -1;
  for (std::int32_t page = 0; page < pages; ++page) {
    if (is_for_it(page)) return page;
    if (lowest < 0 && pool.users[static_cast<std::size_t>(page)] == 0) lowest = page;
  }
  return lowest;
}

void KvPageTable::give_back(std::int32_t slot) {
  Pool& pool = pools_[static_cast<std::size_t>(tier_of(slot))];
  Owner& owner = owners_[index_of(slot)];
  for (std::int32_t page = owner.last; page >= 0;
       page = pool.previous[static_cast<std::size_t>(page)]) {
    let_go(pool, page);
  }
  end_run(slot);
  owner = {};
}

void KvPageTable::let_go(Pool& pool, std::int32_t page) {
  if (--pool.users[static_cast<std::size_t>(page)] == 0) ++pool.free;
}

KvPageTable::Prefix& KvPageTable::prefix_of(std::int32_t prefix, bool is_there) {
  const bool is_number = prefix >= 0 && prefix < most_prefixes();
  if (!is_number || (prefixes_[index_of(prefix)].last >= 0) != is_there) {
    throw Error(ExitStatus::failure,
                fmt::format("KV cache: prefix {} of {} is {} (a bug of sluice)", prefix,
                            most_prefixes(), is_there ? "not there" : "there already"));
  }
  return prefixes_[index_of(prefix)];
}

void KvPageTable::share(std::int32_t slot, std::int32_t prefix) {
  const Prefix& shared = prefix_of(prefix, true);
  Owner& owner = owners_[index_of(slot)];
  if (owner.count != 0 || shared.tier != tier_of(slot)) {
    throw Error(
        ExitStatus::failure,
        fmt::format("KV cache: slot {} has {} pages in the {} tier, and cannot begin with "
                    "prefix {}, in the {} tier (a bug of sluice)",
                    slot, owner.count, name_of(tier_of(slot)), prefix, name_of(shared.tier)));
  }
  Pool& pool = pools_[static_cast<std::size_t>(shared.tier)];
  for (std::int32_t page = shared.last; page >= 0;
       page = pool.previous[static_cast<std::size_t>(page)]) {
    ++pool.users[static_cast<std::size_t>(page)];
  }
  owner.last = shared.last;
  owner.count = shared.count;
}

void KvPageTable::keep(std::int32_t slot, std::int32_t page, std::int32_t prefix) {
  Prefix& kept = prefix_of(prefix, false);
  const Owner& owner = owners_[index_of(slot)];
  if (page < 0 || page >= owner.count) {
    throw Error(ExitStatus::failure,
                fmt::format("KV cache: page {} of slot {}, which has {}, cannot be kept (a bug of "
                            "sluice)",
                            page, slot, owner.count));
  }
  Pool& pool = pools_[static_cast<std::size_t>(tier_of(slot))];
  std::int32_t last = owner.last;
  for (std::int32_t i = owner.count - 1; i > page; --i) {
    last = pool.previous[static_cast<std::size_t>(last)];
  }
  ++pool.users[static_cast<std::size_t>(last)];
  kept = {tier_of(slot), last, page + 1};
}

void KvPageTable::drop(std::int32_t prefix) {
  Prefix& dropped = prefix_of(prefix, true);
  let_go(pools_[static_cast<std::size_t>(dropped.tier)], dropped.last);
  dropped = {};
}

std::int32_t KvPageTable::last_page(std::int32_t prefix, Tier tier) {
  const Prefix& kept = prefix_of(prefix, true);
  if (kept.tier != tier) {
    throw Error(ExitStatus::failure,
                fmt::format("KV cache: prefix {} lies in the {} tier, not in the {} tier (a bug of "
                            "sluice)",
                            prefix, name_of(kept.tier), name_of(tier)));
  }
  return kept.last;
}

/// Leaves the rest of the slot's run to anybody.
void KvPageTable::end_run(std::int32_t slot) {
  Pool& pool = pools_[static_cast<std::size_t>(tier_of(slot))];
  const Owner& owner = owners_[index_of(slot)];
  for (std::int32_t page = owner.run_first; page < owner.run_end; ++page) {
    std::int32_t& kept_for = pool.kept_for[static_cast<std::size_t>(page)];
    if (kept_for == slot) kept_for = -1;
  }
}

void KvPageTable::list(std::int32_t slot, std::int32_t first,
                       std::span<std::int32_t> target) const {
  const Pool& pool = pool_of(tier_of(slot));
  const Owner& owner = owners_[index_of(slot)];
  std::size_t left = target.size();
  std::int32_t page = owner.last;
  for (std::int32_t turn = owner.count - 1; left > 0; --turn) {
    // Pages that are used in turn stand in several places.
    std::int32_t place = (turn - first) % owner.count;
    if (place < 0) place += owner.count;
    for (auto i = static_cast<std::size_t>(place); i < target.size();
         i += static_cast<std::size_t>(owner.count)) {
      target[i] = page;
      --left;
    }
    page = pool.previous[static_cast<std::size_t>(page)];
  }
}

}  // namespace sluice::offload
