#include "stage/stage_config.h"

#include "kernels/device/error.h"

namespace sluice::stage {

std::int32_t Batching::slots(std::int32_t stages) const {
  // 32-bit factors: a product of two fits 64 bits, one of three may not.
  const std::int64_t micro_batch = std::int64_t{num_gpu_batches} * gpu_batch_size;
  const std::int64_t in_flight = micro_batches_for(stages);
  if (micro_batch > kMaxSlots / in_flight) {
    throw ConfigError("batching: " + std::to_string(in_flight) + " micro-batches of " +
                      std::to_string(num_gpu_batches) + " GPU batches of " +
                      std::to_string(gpu_batch_size) + " sequences are more than " +
                      std::to_string(kMaxSlots) +
                      " sequences at a time; lower batching.micro_batches, "
                      "batching.num_gpu_batches or batching.gpu_batch_size");
  }
  return static_cast<std::int32_t>(in_flight * micro_batch);
}

void check_layers(const std::vector<StageConfig>& stages, std::int32_t model_layers) {
  std::int32_t next = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const StageConfig& stage = stages[s];
    const std::string key = "stages[" + std::to_string(s) + "].layers";
    if (stage.layers < 1) throw ConfigError(key + ": a stage needs at least one layer");
    if (stage.first_layer != next) {
      throw ConfigError(key + ": starts at layer " + std::to_string(stage.first_layer) +
                        " where layer " + std::to_string(next) +
                        " comes next; stages must cover all layers once and in order");
    }
    next += stage.layers;
  }
  if (next != model_layers) {
    throw ConfigError("stages: they hold " + std::to_string(next) + " layers, the model has " +
                      std::to_string(model_layers) + "; make stages[].layers add up to that");
  }
}

void check_policies(const std::vector<StageConfig>& stages, const DecoderConfig& model) {
  if (model.residual == Residual::sequential) return;
  for (const StageConfig& stage : stages) {
    if (!stage.policy.mlp_once) continue;
    throw ConfigError(
        "policy.mlp_once: attention and MLP of this model read the same hidden states, so that an "
        "MLP cannot wait for other GPU batches; leave it false");
  }
}

}  // namespace sluice::stage
