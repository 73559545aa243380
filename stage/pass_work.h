// What the computing of a pass takes at least, from shapes alone: the other side of the report's
// rates, which divide it by the time it took.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "offload/weights/placement.h"
#include "stage/pass.h"
#include "stage/report.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

class PassWork {
 public:
  /// `layers` as place_weights() gave them.
  PassWork(const StageLayout& layout, const std::vector<offload::GroupPlacement>& layers);

  /// Products of all tokens with the decoder layers' matrices, of the rows whose logits are wanted
  /// with the output head's, and attention over each row's context. Every GPU batch reads each
  /// layer's weights once, the head's once per chunk of logits, the embedding's rows it needs; a
  /// row reads its keys and values once. Norms, biases and copies are left out as computing.
  /// `on_host(slot)`: the sequence is attended by the host. Allocates nothing.
  ComputeWork of(const Pass& pass, const std::function<bool(std::int32_t slot)>& on_host) const;

 private:
  double layers_flop_ = 0;  // per token
  std::uint64_t layers_bytes_ = 0;
  double embedding_flop_ = 0;  // per token
  std::uint64_t embedding_bytes_ = 0;
  double head_flop_ = 0;  // per row
  std::uint64_t head_bytes_ = 0;
  double attention_flop_ = 0;          // per new token and token of its context
  std::uint64_t attention_bytes_ = 0;  // per token of a row's context
  std::int64_t logit_rows_ = 1;
};

}  // namespace sluice::stage
