// What linear() and linear_times() of kernels/ops.h are asked for.
#pragma once

#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::kernels {

/// out = (activation(in W^T + bias) + residual) * factor. Each of the last three views may be
/// empty.
struct LinearCall {
  TensorView out;
  TensorView in;
  SplitMatrix weight;
  TensorView bias = {};
  Activation activation = Activation::none;
  TensorView residual = {};
  TensorView factor = {};
};

}  // namespace sluice::kernels
