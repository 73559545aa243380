#include "stage/layer_split.h"

#include <algorithm>

#include "kernels/device/error.h"
#include "stage/weight_groups.h"

namespace sluice::stage {

namespace {

std::uint64_t elements_of(const offload::GroupSpec& spec) {
  std::uint64_t elements = 0;
  for (const offload::WeightSpec& tensor : spec.tensors) {
    elements +=
        static_cast<std::uint64_t>(tensor.rows) * static_cast<std::uint64_t>(tensor.columns);
  }
  return elements;
}

}  // namespace

DecodeWeights decode_weights(const DecoderConfig& model) {
  // The last layer stands for all: where only some have experts, the first ones often have none.
  return {elements_of(layer_group(model, std::max(model.layers - 1, 0))),
          elements_of(head_group(model))};
}

void split_layers(std::vector<StageConfig>& stages, std::int32_t model_layers,
                  const DecodeWeights& weights) {
  const auto count = static_cast<std::int32_t>(stages.size());
  if (count > model_layers) {
    throw ConfigError("there are " + std::to_string(count) + " stages but the model has only " +
                      std::to_string(model_layers) +
                      " layers; start at most one rank per layer (mpirun -n " +
                      std::to_string(model_layers) + ")");
  }
  // Each stage gets one layer; each further layer goes to the stage that is lightest with it.
  // Layers weigh the same, so in no other split is the heaviest stage lighter.
  for (StageConfig& stage : stages) stage.layers = 1;
  const auto weight_with_one_more = [&](const StageConfig& stage) {
    return static_cast<std::uint64_t>(stage.layers + 1) * weights.layer +
           (&stage == &stages.back() ? weights.head : 0);
  };
  for (std::int32_t left = model_layers - count; left > 0; --left) {
    ++std::ranges::min_element(stages, {}, weight_with_one_more)->layers;
  }
  std::int32_t next = 0;
  for (StageConfig& stage : stages) {
    stage.first_layer = next;
    next += stage.layers;
  }
}

}  // namespace sluice::stage
