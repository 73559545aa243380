// Embeddings of prompts, out of the final hidden states of their tokens.
#pragma once

#include <cstdint>

#include "kernels/device/tensor_view.h"
#include "stage/pass.h"

namespace sluice::stage {

/// On the last stage, for the rows whose embeddings are wanted. A mean is summed in f64 in the
/// order of the prompt's tokens, so its bits do not depend on the passes that brought them.
class FeatureSums {
 public:
  /// Over `memory` [slots, width], which must outlive it.
  FeatureSums(double* memory, std::int32_t width) : memory_(memory), width_(width) {}

  /// Takes the hidden state [1, width], of any float type, of the row's prompt token `index`.
  /// Tokens come in order. The last one of a row with PassRow::embeds puts the embedding into
  /// `results`.
  void add(const PassRow& row, std::int32_t index, TensorView values, PassResults& results);

 private:
  double* memory_;
  std::int32_t width_;
};

}  // namespace sluice::stage
