// Which kernels compute a call of attention, and how much of it at a time. The host decides without
// knowing how many tokens a sequence has: these numbers lie in device memory.
//
// Sequences of one new token go to the decode kernel, others to the prefill kernel. The general
// kernel takes what these two cannot. So a sequence's kernel depends on the sequence alone, never
// on its neighbours in the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/kernel_work.h"
#include "kernels/device/tensor_view.h"
#include "kernels/ops.h"

namespace sluice::cuda {

constexpr int kDecodeSpan = 256;  // tokens of the context
constexpr int kMostHeadDim = 256;
constexpr int kMostDecodeDim = 128;             // a longer head goes to the general kernel
constexpr float kLog2E = 1.44269504088896341F;  // exponentials are powers of two

/// For partial results of decode; a batch that needs more goes in pieces.
constexpr std::size_t kAttentionScratchBytes = std::size_t{64} << 20;

/// What attention has of the device. The scratch is one stream's, 16-byte aligned.
struct AttentionResources {
  std::byte* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  int compute_capability = 0;  // 10 major + minor: 80 of sm_80
};

struct AttentionPlan {
  bool decode = false;        // sequences of one new token: by the decode kernel
  bool others = false;        // there may be sequences that the decode kernel does not take
  bool tensor_cores = false;  // those by the prefill kernel, else by the general one
  int spans = 0;              // decode: most a sequence has
  std::int64_t piece = 0;     // decode: query heads of sequences a launch; 0: the scratch is too
                              // small for one
};

/// As the width of the query says.
inline std::int32_t query_heads_of(const TensorView& query, const kernels::KvPages& cache) {
  return static_cast<std::int32_t>(query.columns / cache.head_dim);
}

/// Bytes of scratch that decode of one query head needs, of a sequence of at most `spans` spans.
constexpr std::size_t decode_scratch_bytes(std::int64_t spans, std::int32_t head_dim) {
  if (spans <= 1) return 0;
  return static_cast<std::size_t>(spans) * (static_cast<std::size_t>(head_dim) + 2) * sizeof(float);
}

AttentionPlan plan_attention(const TensorView& out, const TensorView& query,
                             const kernels::KvPages& cache, const kernels::KvBatch& batch,
                             float scale, const AttentionResources& resources);

/// How append_kv takes vectors: copied by words of 16 bytes (cache and activations are of one
/// dtype), quantised by quads of elements, or, whatever they are, by elements.
enum class AppendBy { words, quads, elements };
AppendBy append_by(const kernels::KvPages& cache, const TensorView& keys, const TensorView& values);

/// Lanes that hold a vector of the cache, eight elements each.
constexpr int lanes_of(std::int32_t head_dim) { return head_dim <= 64 ? 8 : 16; }

/// The least that attention moves (each sequence's cache once, queries and results) and computes
/// (4 head_dim for each query head, row and key that the row sees). [sequences] each, as in
/// KvBatch.
KernelWork attention_work(const kernels::KvPages& cache, std::int32_t query_heads,
                          DType activations, std::span<const std::int32_t> new_tokens,
                          std::span<const std::int32_t> context);

/// Of `tokens` new tokens: keys and values read and written.
KernelWork append_kv_work(const kernels::KvPages& cache, DType activations, std::int64_t tokens);

}  // namespace sluice::cuda
