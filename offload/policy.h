// How a stage shares its weights, KV cache and activations among the tiers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device/dtype.h"
#include "offload/tier.h"

namespace sluice::offload {

/// Shares in percent; device + host + disk == 100. FlexGen's --percent gives device and host of
/// each; the rest is disk.
struct Shares {
  double device = 100;
  double host = 0;
  double disk = 0;

  double of(Tier tier) const {
    return tier == Tier::device ? device : tier == Tier::host ? host : disk;
  }
};

enum class Compression : std::uint8_t { none, eight_bit, four_bit };

struct Policy {
  Shares weights;      // of the bytes of each layer
  Shares cache;        // of the sequences
  Shares activations;  // of the tokens of a GPU batch, between layers
  /// Host-resident KV is attended by the CPU beside it (FlexGen: --cpu-cache-compute) instead of
  /// being streamed to the device. Default: false.
  bool cpu_cache_compute = false;
  /// Host memory is pinned. 0 saves host memory where it is short. FlexGen: --pin-weight.
  bool pin_weight = true;
  /// Weight slots in the ring: >= 2. One more hides a slower disk, for one layer's device bytes
  /// each.
  std::int32_t weight_slots = 2;
  /// What the next step needs is fetched beside the present one's computing. False: one thing after
  /// the other, to measure what that gains (FlexGen: --overlap).
  bool overlap = true;
  /// The MLP of a layer is computed once over the rows of all GPU batches, after the attention of
  /// all of them: larger products, and workspace for all the rows. Needs all activations on the
  /// device.
  bool mlp_once = false;
  /// f32, f16, bf16; q8 or q4: group-wise quantised (FlexGen: --compress-cache). Empty: what the
  /// device computes in, so that nothing is lost and no byte is moved for nothing.
  std::optional<DType> cache_dtype = std::nullopt;
  /// Share of the values of old tokens that a token of an answer takes, those of the largest
  /// attention weights; (0, 1]. Below 1 attention is approximate (AttentionRule::kept_millionths).
  /// Tokens of the prompt take all. Not with a quantised cache. FlexGen: --attn-sparsity.
  double attn_sparsity = 1.0;
  /// Matrices are quantised group-wise, once (FlexGen: --compress-weight, 4 bits).
  Compression compress_weight = Compression::none;

  /// What the KV cache is made of where `compute` is the dtype of activations.
  DType cache_dtype_for(DType compute) const { return cache_dtype.value_or(compute); }

  /// As kernels::AttentionRule has it; 0: attention is not sparse.
  std::int32_t kept_millionths() const;

  /// All problems, each naming the key (empty: none).
  std::string problems() const;
};

/// Home tiers of sequence slots 0 .. slots - 1: spread so that of any prefix of slots the shares
/// hold within one. More slots only add to the list.
std::vector<Tier> cache_tiers(const Shares& cache, std::int32_t slots);

}  // namespace sluice::offload
