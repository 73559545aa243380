// A call of kernels::Ops as data: what CUDA graphs are recognised by, and what runs it later.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace sluice::cuda {

enum class OpKind : std::uint8_t {
  gather,
  gather_add,
  select_rows,
  layer_norm,
  rms_norm,
  rotate,
  scale,
  soft_cap,
  add,
  widen_rows,
  clear,
  clamp,
  route,
  add_rows,
  linear,
  linear_times,
  append_kv,
  attention,
  sample
};

/// Two equal calls put equal work on a stream. Fields that a kind does not name stay as they are.
struct OpCall {
  OpKind kind = OpKind::gather;
  kernels::Activation activation = kernels::Activation::none;
  float number = 0;     // norms: epsilon; scale: the factor; soft_cap: the cap; clamp: the limit
  float offset = 0;     // rms_norm
  TensorView out;       // append_kv: empty
  TensorView in;        // append_kv: keys; attention: query; sample, route: logits
  TensorView scale;     // norms: weight; append_kv: values
  TensorView bias;      // layer_norm, products; route: the correction
  TensorView residual;  // linear; linear_times: the factor
  SplitMatrix weight;   // gather: the table
  kernels::Rotation rotation;
  kernels::KvPages cache;
  kernels::KvBatch batch;
  kernels::AttentionRule rule;
  kernels::RouterRule router;
  kernels::RoutedRows routed;
  kernels::RowFactors where;          // add_rows
  const std::int32_t* ids = nullptr;  // gather, select_rows; rotate: positions
  const kernels::SampleRow* sample_rows = nullptr;
  kernels::SampleLists sample_lists;
  kernels::SampledRow* sampled = nullptr;

  bool operator==(const OpCall&) const = default;
};

}  // namespace sluice::cuda
