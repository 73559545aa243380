#include "offload/weights/weight_ring.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"

namespace sluice::offload {

// With S slots, content t lies beside t + 1 until t + S takes its place: those two sums, for every
// t.
RingLayout::RingLayout(const std::vector<std::uint64_t>& bytes, std::size_t slots) {
  std::uint64_t largest = 0;
  for (std::size_t t = 0; t < bytes.size(); ++t) {
    const std::uint64_t next = bytes[(t + 1) % bytes.size()];
    const std::uint64_t after = bytes[(t + slots) % bytes.size()];
    pair_ = std::max({pair_, bytes[t] + next, next + after});
    largest = std::max(largest, bytes[t]);
  }
  total_ = slots / 2 * pair_ + slots % 2 * largest;
}

std::uint64_t RingLayout::offset(std::size_t slot, std::uint64_t bytes) const {
  const std::uint64_t begin = slot / 2 * pair_;
  return slot % 2 == 0 ? begin : begin + pair_ - bytes;
}

std::vector<std::int32_t> lease_order(const std::vector<GroupPlacement>& groups,
                                      const std::vector<std::int32_t>& order) {
  if (order.empty()) {
    std::vector<std::int32_t> each(groups.size());
    std::iota(each.begin(), each.end(), 0);
    return each;
  }
  std::vector<bool> named(groups.size(), false);
  for (const std::int32_t group : order) {
    if (group < 0 || static_cast<std::size_t>(group) >= groups.size()) {
      throw Error(ExitStatus::failure,
                  fmt::format("the order of weight leases names group {}, but there are {}", group,
                              groups.size()));
    }
    named[static_cast<std::size_t>(group)] = true;
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (named[g] || groups[g].slot_bytes() == 0) continue;
    throw Error(ExitStatus::failure,
                fmt::format("the order of weight leases leaves out '{}', which is streamed",
                            groups[g].name));
  }
  return order;
}

WeightRing::WeightRing(const std::vector<GroupPlacement>& groups,
                       const std::vector<std::int32_t>& order, std::size_t slots)
    : slots_(slots) {
  std::int32_t layer = -1;
  for (const std::int32_t index : lease_order(groups, order)) {
    const auto g = static_cast<std::size_t>(index);
    const GroupPlacement& group = groups[g];
    const std::uint64_t bytes = group.slot_bytes();
    if (bytes == 0) continue;
    if (units_.empty() || group.layer < 0 || group.layer != layer) {
      units_.push_back({items_.size(), 0});
      disk_bytes_.push_back(0);
    }
    layer = group.layer;
    items_.push_back({g, units_.size() - 1, units_.back().bytes, bytes});
    units_.back().bytes += bytes;
    disk_bytes_.back() += group.bytes(Tier::disk);
  }
  for (std::uint64_t& bytes : disk_bytes_) bytes = round_to_blocks(bytes);
  std::vector<std::uint64_t> unit_bytes;
  for (const Unit& unit : units_) unit_bytes.push_back(unit.bytes);
  layout_ = RingLayout(unit_bytes, slots);
}

std::uint64_t WeightRing::offset(std::uint64_t item, std::size_t slot) const {
  const Item& of_cycle = at(item);
  return layout_.offset(slot, units_[of_cycle.unit].bytes) + of_cycle.begin;
}

std::uint64_t WeightRing::first_that_may_stay(std::uint64_t item) const {
  const std::uint64_t unit = unit_number(item);
  if (unit < slots_) return 0;
  // The layer that had the slot before. Layers before that one have long been gone.
  const std::size_t slot = slot_of(item);
  const std::uint64_t begin = offset(item, slot);
  const std::uint64_t first = first_item_of(unit - slots_);
  std::uint64_t stay = first_item_of(unit - slots_ + 1);
  for (; stay > first; --stay) {
    const std::uint64_t other = offset(stay - 1, slot);
    if (begin < other + at(stay - 1).bytes && other < begin + at(item).bytes) break;
  }
  return stay;
}

std::size_t WeightRing::most_alive() const {
  std::uint64_t most = 0;
  for (std::uint64_t item = 0; item < 2 * slots_ * cycle(); ++item) {
    most = std::max(most, item + 1 - first_that_may_stay(item));
  }
  return static_cast<std::size_t>(most);
}

}  // namespace sluice::offload
