// Cuts attention() into items. An item is a tile of consecutive tokens with the query heads of one
// KV head. Where few items would keep few threads busy for long, because a sequence has many keys,
// an item is one span of these keys. The cut decides who computes, never what.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/context.h"
#include "kernels/device/tensor_view.h"

namespace sluice::kernels {

class AttentionPlan {
 public:
  /// Lies in the scratch that the lane's workers share, with the sums of the spans. The batch was
  /// checked. Throws DeviceError where it has more sequences than that holds (100,000 and more).
  AttentionPlan(TensorView out, TensorView query, const KvPages& cache, const KvBatch& batch,
                const AttentionRule& rule, const CpuContext& context);

  /// Items. Some may have nothing to do: those whose span their tokens do not see.
  std::int64_t items() const { return items_; }
  AttentionItem item(std::int64_t index) const;
  std::int64_t operations() const { return operations_; }  // multiply-adds of all, about

  /// What is put together from spans once all items are done.
  std::int64_t shared_items() const { return shared_items_; }
  AttentionItem shared_item(std::int64_t index) const;
  std::int64_t shared_floats() const { return shared_floats_; }

 private:
  struct Sequence {
    std::int64_t first_item = 0;
    std::int64_t first_shared_item = 0;
    float* spans = nullptr;  // of all its items; null: not cut into spans
  };

  std::int64_t tiles_of(std::int32_t sequence) const;
  /// The first span that any new token of the sequence sees, and how many there are from it on.
  std::int64_t first_span(std::int32_t sequence) const;
  std::int64_t sequence_spans(std::int32_t sequence) const;
  std::int64_t most_keys(std::int32_t sequence) const;  // that one token sees
  /// Floats of the spans of the sequence's largest item.
  std::int64_t floats_of_item(std::int32_t sequence) const;
  /// part: one of parts_, numbered KV head by KV head.
  AttentionItem make_item(std::int32_t sequence, std::int64_t tile, std::int64_t part) const;

  TensorView out_;
  TensorView query_;
  const KvPages& cache_;
  const KvBatch& batch_;
  AttentionRule rule_;
  std::int64_t group_;        // query heads of a KV head
  std::int64_t part_heads_;   // query heads of an item: the group, or a part of a large one
  std::int64_t parts_;        // items of a tile
  std::int64_t tile_tokens_;  // of every tile but a sequence's last one, which may have fewer
  Sequence* sequences_;
  std::int64_t items_ = 0;
  std::int64_t operations_ = 0;
  std::int64_t shared_items_ = 0;
  std::int64_t shared_floats_ = 0;
};

}  // namespace sluice::kernels
