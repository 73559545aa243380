// How a run is laid out: which layers each stage owns and by what policy, and how prompts are
// batched. Plain data, alike on all ranks (the handshake compares it).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "offload/memory_plan.h"
#include "offload/policy.h"
#include "stage/decoder_config.h"

namespace sluice::stage {

/// Links made slower than they are, to reproduce a PCIe-bound or disk-bound machine on any other.
/// In 10^9 bytes per second; 0: as fast as they are. The copies' limits are the CPU backend's.
struct RateLimits {
  double host_to_device_gbps = 0;
  double device_to_host_gbps = 0;
  double disk_read_gbps = 0;
  double disk_write_gbps = 0;
};

struct StageConfig {
  std::int32_t first_layer = 0;  // of the decoder's layers
  std::int32_t layers = 0;       // >= 1
  std::string device = "auto";   // "auto", "cpu", "cuda", "cuda:N"
  std::int32_t threads = 0;  // of the CPU backend; 0: the affinity mask shared by the host's ranks
  offload::Budgets budgets;
  offload::Policy policy;
  RateLimits limits;
};

/// The schedule keeps a state of each (schedule.h), comm's transfer table a message of each.
constexpr std::int32_t kMaxGpuBatches = 1024;
/// Sequences under way in a job: more than any machine has KV cache for, and few enough to count.
constexpr std::int32_t kMaxSlots = 1'000'000;

struct Batching {
  std::int32_t gpu_batch_size = 8;  // sequences per GPU batch (FlexGen: --gpu-batch-size)
  /// GPU batches per micro-batch, <= kMaxGpuBatches (FlexGen: --num-gpu-batches).
  std::int32_t num_gpu_batches = 1;
  /// Micro-batches in flight; 0: stages + 1, and 1 where there is one stage (a second would only
  /// read streamed weights twice as often).
  std::int32_t micro_batches = 0;
  /// Most new tokens of a GPU batch in one pass: longer prefills are cut into chunks. It bounds the
  /// workspace. >= gpu_batch_size.
  std::int32_t max_tokens_per_gpu_batch = 512;
  /// Longest prompt + answer of the job: more tokens no sequence may have. Set by the launcher.
  std::int32_t max_sequence_tokens = 0;
  /// What the KV cache has room for in every slot; longer sequences find room where others leave
  /// it. 0: max_sequence_tokens. Set by the launcher, where few rows bound the longest.
  std::int32_t usual_sequence_tokens = 0;
  /// Most numbers of a request's rules (token_rules.h), which every place of the job has memory
  /// for. Set by the launcher.
  std::int32_t max_rule_words = 0;
  bool grammars = false;  // requests may have one. Set by the launcher
  /// Most tokens that are guessed ahead of a row, to be verified in one pass (drafter.h); 0: none.
  /// Set by the launcher.
  std::int32_t draft_tokens = 0;
  bool draft_adapts = true;  // fewer where guesses cost more time than they save
  /// Numbers of an embedding (DecoderConfig::feature_width()); 0: no request asks for one. Set by
  /// the launcher.
  std::int32_t features = 0;
  std::int32_t adapters = 0;  // of the run: numbers that requests may have. Set by the launcher
  /// Sequences that begin with the same full pages of tokens have these in common.
  bool share_prefixes = true;
  /// Requests that begin alike are started one after the other, as far as the head looks ahead.
  bool group_prefixes = true;

  std::int32_t micro_batches_for(std::int32_t stages) const {
    return micro_batches > 0 ? micro_batches : stages > 1 ? stages + 1 : 1;
  }
  /// Sequences under way at a time. Throws ConfigError for more than kMaxSlots.
  std::int32_t slots(std::int32_t stages) const;
  /// Requests that the head takes from the job before they have places, at most: to group them, and
  /// to start others while one waits for pages that it will share.
  std::int32_t look_ahead(std::int32_t stages) const {
    return share_prefixes ? std::min(slots(stages), 256) : 1;
  }
};

/// Throws ConfigError unless the stages cover layers 0 .. model_layers - 1 once and in order.
void check_layers(const std::vector<StageConfig>& stages, std::int32_t model_layers);

/// Throws ConfigError for a policy that the model's form forbids.
void check_policies(const std::vector<StageConfig>& stages, const DecoderConfig& model);

}  // namespace sluice::stage
