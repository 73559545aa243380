// What there is to say about a model without loading it: sizes from its config.json and from the
// headers of its files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/model/model_folder.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/policy.h"

namespace sluice::launcher {

struct ModelFacts {
  ModelFolder folder;
  std::vector<std::filesystem::path> files;  // empty: only config.json is there, and counts
  std::uint64_t file_bytes = 0;
  std::string format;            // "safetensors", "PyTorch", "GGUF"
  std::string dtypes;            // of the weights, by share: "f16", "f16, f32"
  std::string blocks;            // as the file has them, by share: "Q4_K 84 %, Q6_K 16 %"; or empty
  std::uint64_t parameters = 0;  // a table that is used twice counts once
  /// ... that one token is computed with: of a mixture of experts its chosen ones alone.
  std::uint64_t active_parameters = 0;
  std::uint64_t weight_bytes = 0;  // likewise
  std::uint64_t embedding_bytes = 0;
  std::uint64_t head_bytes = 0;  // with its token table, shared or not: a stage must have it
  std::vector<std::uint64_t> layer_bytes;
  std::uint64_t kv_elements_per_token = 0;       // of one sequence, keys and values, all layers
  std::uint64_t activation_bytes_per_token = 0;  // between two layers, f32
  std::vector<std::string> remarks;  // what sets this variant apart: "layer norm after ..."
};

/// Opens folder and headers, checks that every tensor of the model is there in the right shape. A
/// folder without any weights is what its config.json says.
/// Bytes are those of the weights as `compression` keeps them. Throws InputError.
ModelFacts read_model_facts(const std::string& model,
                            offload::Compression compression = offload::Compression::none);

/// How the weights of one stage would lie, filled from the fastest tier down.
struct StageFit {
  std::int32_t first_layer = 0;
  std::int32_t layers = 0;
  std::uint64_t weight_bytes = 0;
  std::uint64_t device_bytes = 0;  // resident
  std::uint64_t slot_bytes = 0;    // device memory for what is streamed: two of the largest part
  std::uint64_t host_bytes = 0;
  std::uint64_t disk_bytes = 0;
  std::uint64_t device_left = 0;  // for KV cache and activations; 0 where no limit was given
  bool fits = true;               // false: not even the slots fit into device memory
};

/// `device_memory`, `host_memory`: of each stage; 0: no limit. Counts weights only. Throws
/// ConfigError for more stages than layers, or fewer than 1.
std::vector<StageFit> fit_weights(const ModelFacts& facts, std::uint64_t device_memory,
                                  std::uint64_t host_memory, std::int32_t stages);

}  // namespace sluice::launcher
