// Adapters with made-up values for a checkpoint, as PEFT saves them, and the checkpoint with one
// merged into its weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace sluice::support {

/// A module that an adapter has, and its matrices.
struct AdaptedModule {
  std::string weight;        // the tensor of the checkpoint, such as "h.0.mlp.c_fc.weight"
  std::vector<float> lower;  // A [rank, inputs]
  std::vector<float> upper;  // B [outputs, rank]
  std::int64_t inputs = 0;
  std::int64_t outputs = 0;
  bool transposed = false;  // the checkpoint has [inputs, outputs]
};

struct MadeAdapter {
  std::int64_t rank = 0;
  double alpha = 0;
  std::vector<AdaptedModule> modules;
};

/// Of the matrices of the decoder's layers in the checkpoint of `model`, those that `wanted` says.
/// Values are a function of the seed.
MadeAdapter make_adapter(const std::filesystem::path& model, std::int64_t rank, double alpha,
                         std::uint64_t seed,
                         const std::function<bool(const std::string& weight)>& wanted);

/// adapter_config.json and adapter_model.safetensors. Module names are "base_model.model." and
/// `prefix` before the checkpoint's.
void write_adapter(const MadeAdapter& adapter, const std::filesystem::path& folder,
                   const std::string& prefix = "");

/// The model's folder with all weights in f32, and the adapter added to them.
void write_merged(const std::filesystem::path& model, const MadeAdapter& adapter,
                  const std::filesystem::path& folder);

/// A safetensors file's bytes.
struct FloatTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};
std::string safetensors_bytes(const std::vector<FloatTensor>& tensors);

}  // namespace sluice::support
