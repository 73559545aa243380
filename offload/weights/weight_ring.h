// Where the streamed rows of the weight groups lie on the device, and which leases must be over
// before a group may be put there. Arithmetic over the order of leases. A part of WeightStream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "offload/weights/placement.h"

namespace sluice::offload {

/// Memory of a ring of slots, which are filled in turn. Two neighbours share a block, one from its
/// begin and one from its end: a large content (the embedding of a small model) is never there
/// twice, so that a block need only hold it and the content beside it.
class RingLayout {
 public:
  RingLayout() = default;
  /// `bytes`: what is put into the slots, in cyclic order.
  RingLayout(const std::vector<std::uint64_t>& bytes, std::size_t slots);

  std::uint64_t total() const { return total_; }  // 0: nothing is put there
  /// Where a content of so many bytes begins in `slot`.
  std::uint64_t offset(std::size_t slot, std::uint64_t bytes) const;

 private:
  std::uint64_t pair_ = 0;
  std::uint64_t total_ = 0;
};

/// The groups that move bytes, in the order of their leases. A slot takes the groups of one layer,
/// one behind the other. So two groups of a layer need the memory of the layer, and each can be
/// replaced as soon as what lay in its own place is released.
///
/// Items are numbered for ever: item n of cycle n / cycle().
class WeightRing {
 public:
  WeightRing() = default;
  /// `order`: indices of groups, as they are leased; empty: each once. Groups without streamed rows
  /// make no item. Throws Error where the order names no group, or leaves out a streamed one.
  WeightRing(const std::vector<GroupPlacement>& groups, const std::vector<std::int32_t>& order,
             std::size_t slots);

  std::uint64_t bytes() const { return layout_.total(); }
  std::size_t slots() const { return slots_; }
  std::size_t cycle() const { return items_.size(); }  // 0: nothing is streamed
  std::size_t group_of(std::uint64_t item) const { return at(item).group; }
  std::size_t slot_of(std::uint64_t item) const { return unit_number(item) % slots_; }
  /// Where the item of `slot` begins.
  std::uint64_t offset(std::uint64_t item, std::size_t slot) const;
  /// The place is free when all items before this one are released: everything that lay there.
  std::uint64_t first_that_may_stay(std::uint64_t item) const;
  /// Most items that are filled and not released, at any time.
  std::size_t most_alive() const;
  /// Disk rows of each layer in the ring's order, in whole blocks.
  const std::vector<std::uint64_t>& disk_bytes() const { return disk_bytes_; }

 private:
  struct Item {
    std::size_t group = 0;
    std::size_t unit = 0;     // the layer of which it is a part, counted in the cycle
    std::uint64_t begin = 0;  // in the layer's slot
    std::uint64_t bytes = 0;
  };
  struct Unit {
    std::size_t first_item = 0;
    std::uint64_t bytes = 0;
  };

  const Item& at(std::uint64_t item) const { return items_[item % items_.size()]; }
  std::uint64_t unit_number(std::uint64_t item) const {
    return item / items_.size() * units_.size() + at(item).unit;
  }
  std::uint64_t first_item_of(std::uint64_t unit) const {
    return unit / units_.size() * items_.size() + units_[unit % units_.size()].first_item;
  }

  std::size_t slots_ = 1;
  std::vector<Item> items_;
  std::vector<Unit> units_;
  std::vector<std::uint64_t> disk_bytes_;  // by unit
  RingLayout layout_;
};

/// The order itself: `order`, or each group once. Throws like WeightRing.
std::vector<std::int32_t> lease_order(const std::vector<GroupPlacement>& groups,
                                      const std::vector<std::int32_t>& order);

}  // namespace sluice::offload
