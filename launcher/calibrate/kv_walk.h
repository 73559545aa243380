// Attention over a KV cache far beyond any processor's own.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/calibrate/operands.h"
#include "launcher/calibrate/sampler.h"

namespace sluice::launcher {

/// Sequences of one length in pages of 16 tokens, which lie interleaved as they do when sequences
/// grow together; caches of as many layers as `bytes` hold, one at least.
class KvWalk {
 public:
  struct Shape {
    std::int32_t heads = 1;  // of queries, and of keys and values
    std::int32_t sequences = 1;
    std::int32_t context = 1;     // tokens in the cache of each
    std::int32_t new_tokens = 1;  // of them
  };
  static constexpr std::int32_t kHeadWidth = 128;

  /// On `lane`: compute, or host_compute beside it.
  KvWalk(kernels::Engine& engine, Lane lane, DType cache, const Shape& shape, std::size_t bytes);

  /// Seconds of attention over all layers, once.
  double run();
  /// That run() reads; a sequence's last page counts whole.
  double bytes() const;
  /// Of run(): each new token with each that it sees.
  double flop() const;

 private:
  TensorView view(const Memory& memory) const;

  kernels::Ops& ops_;
  LaneMemory memory_;
  DType compute_;
  Shape shape_;
  kernels::KvPages cache_;
  kernels::KvBatch batch_;
  std::int64_t layer_pages_ = 0;
  std::int64_t layers_ = 1;
  Memory pages_, first_row_, new_tokens_, context_, page_list_, query_, out_;
};

/// Rates of all cache types: decode (bytes of KV a second, one new token a sequence) and prefill
/// (FLOP a second).
struct AttentionRates {
  std::map<DType, Figure> decode, prefill;
};
AttentionRates measure_attention(kernels::Engine& engine, Lane lane, Sampler& sampler);

}  // namespace sluice::launcher
