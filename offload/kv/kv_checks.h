// What the cache is called with: sequences, rows and rules that cannot be are bugs of the caller.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

/// Throws Error: "KV cache: <what> (a bug of sluice)".
[[noreturn]] void throw_bug(const std::string& what);

/// All throw Error by throw_bug().
class KvChecks {
 public:
  /// The layout must outlive it.
  explicit KvChecks(const KvLayout& layout)
      : layout_(layout), taken_(static_cast<std::size_t>(layout.shape.slots), 0) {}

  /// Those of a GPU batch. `lengths`: tokens each slot holds.
  void sequences(std::span<const KvSequence> sequences, std::span<const std::int32_t> lengths);
  void rows(const KvStep& step, const char* name, TensorView view, std::int32_t heads) const;
  /// That the rule sees no farther than the layer's pages.
  void rule(std::int32_t layer, const kernels::AttentionRule& rule) const;

 private:
  void sequence(const KvSequence& sequence, std::int32_t length) const;

  const KvLayout& layout_;
  std::vector<char> taken_;  // marks of sequences()
};

}  // namespace sluice::offload
