// The operations of a decoder layer, over ragged rows, on one lane of a backend.
//
// Every call puts work on the lane this Ops was made for and returns at once. Views must stay valid
// until an event recorded afterwards is done.
//
// Activations are row-major [tokens, width] in the backend's compute dtype. On the CPU that is f32;
// its append_kv and attention also take f16 and bf16, for a device beside it. Logits are f32.
// Weights keep the dtype of the checkpoint (f32, f16, bf16) or are quantised rows (q8, q4); they
// are widened in registers, and sums are f32.
//
// Law (CPU backend): every output row depends only on its own input row, bit for bit, never on
// which or how many rows share the call, on the number of threads, or on how a weight matrix is
// split.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"

namespace sluice::kernels {

enum class Activation : std::uint8_t { none, relu, gelu };  // gelu: the exact (erf) form

/// The key/value cache of one layer, in one memory, in pages of `page_tokens` tokens.
/// Page p starts at base + p * page_stride_bytes. It holds keys [kv_heads, page_tokens, head_dim],
/// then values [kv_heads, page_tokens, head_dim], both of `dtype`, dense. With q8 and q4 each head
/// of a token is a quantised row.
struct KvPages {
  void* base = nullptr;
  DType dtype = DType::f32;
  std::int64_t page_stride_bytes = 0;
  std::int32_t page_tokens = 0;
  std::int32_t kv_heads = 0;  // several query heads may share one
  std::int32_t head_dim = 0;  // of query and KV heads alike

  bool operator==(const KvPages&) const = default;
  std::size_t page_bytes() const {
    return 2U * static_cast<std::size_t>(kv_heads) * static_cast<std::size_t>(page_tokens) *
           row_bytes_of(dtype, head_dim);
  }
};

/// Some sequences of a GPU batch, those whose cache lies in one KvPages. All arrays lie in memory
/// the lane can read (device memory for the compute lane), [sequences] each:
///   first_row[s]  index of the sequence's first new token in the row-major activations
///   new_tokens[s] how many rows it has, >= 1
///   context[s]    tokens in the cache once the new ones are in; its new tokens have positions
///                 context[s] - new_tokens[s] ... context[s] - 1
///   pages[s * max_pages + i]  page of tokens [i * page_tokens, (i + 1) * page_tokens)
struct KvBatch {
  std::int32_t sequences = 0;
  std::int32_t max_pages = 0;
  const std::int32_t* first_row = nullptr;
  const std::int32_t* new_tokens = nullptr;
  const std::int32_t* context = nullptr;
  const std::int32_t* pages = nullptr;

  bool operator==(const KvBatch&) const = default;
};

constexpr std::int32_t kMostCandidates = 20;

/// What is wanted of one row of logits. The meaning of each is stage::Sampler's.
struct SampleRow {
  double uniform = 0.0;             // in [0, 1): the only source of chance
  float temperature = 0.0F;         // 0: greedy
  float top_p = 1.0F;               // (0, 1]
  float repetition_penalty = 1.0F;  // > 0
  std::int32_t top_k = 0;           // 0: all
  std::int32_t logprobs = -1;       // -1: none; n: the token's own and the n likeliest
  std::int32_t token = -1;          // >= 0: nothing is chosen, this one is scored
  /// For the penalty: tokens [history_first, history_first + history_count) of `history`; one that
  /// is there twice is penalised once.
  std::int32_t history_first = 0;
  std::int32_t history_count = 0;
};

struct SampledRow {
  std::int32_t token = -1;  // -1: a logit is NaN, or none is finite
  float logprob = 0.0F;     // of the model, before temperature and penalty
  std::int32_t top_count = 0;
  std::int32_t top_token[kMostCandidates] = {};  // likeliest first; equals by id
  float top_logprob[kMostCandidates] = {};
};

class Ops {
 public:
  virtual ~Ops() = default;

  /// out[i, :] = table[ids[i], :]. ids: i32 [out.rows], each in [0, table.rows()).
  virtual void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) = 0;

  /// out[i, :] += table[ids[i], :]. For learned positions; the caller adds any offset to the ids.
  virtual void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) = 0;

  /// out[i, :] = in[rows[i], :]. in and out of the same compute dtype; no overlap.
  virtual void select_rows(TensorView out, TensorView in, const std::int32_t* rows) = 0;

  /// out = (in - mean) / sqrt(variance + epsilon) * weight + bias, per row; out may be in.
  /// weight, bias: [1, width]; each may be empty (rows == 0): then 1 and 0.
  virtual void layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                          float epsilon) = 0;

  /// out = activation(in W^T + bias) + residual. in [n, K], weight [N, K], out [n, N] (torch
  /// Linear). bias [1, N] or empty; residual [n, N] or empty, and may be out. out must not overlap
  /// in. With q8 or q4 weights the CPU rounds `in` to 8 bits a row and group (linear_quantized.h).
  virtual void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                      Activation activation, TensorView residual) = 0;

  /// Writes keys and values of the new tokens ([rows, kv_heads * head_dim]) into their pages.
  virtual void append_kv(const KvPages& cache, const KvBatch& batch, TensorView keys,
                         TensorView values) = 0;

  /// Causal attention of the new tokens over their sequence's cache (append_kv came first).
  /// query, out: [rows, query_heads * head_dim]; only rows named by the batch are read and written.
  /// The width of the query says how many query heads there are: a multiple of cache.kv_heads.
  /// Query head h attends KV head h / (query_heads / kv_heads) (Hugging Face repeat_kv; Ainslie et
  /// al., "GQA", 2023). Scores are scaled by `scale`; softmax in f32.
  virtual void attention(TensorView out, TensorView query, const KvPages& cache,
                         const KvBatch& batch, float scale) = 0;

  /// out[i] = what rows[i] asks of logits[i, :] (f32). Everything lies in the lane's memory; logits
  /// may be overwritten. Only where BackendInfo::samples: elsewhere throws DeviceError.
  virtual void sample(SampledRow* out, TensorView logits, const SampleRow* rows,
                      const std::int32_t* history);
};

/// A backend with the operations of its two computing lanes. Members are destroyed in reverse
/// order.
struct Engine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Ops> device_ops;  // on Lane::compute, over device memory
  std::unique_ptr<Ops> host_ops;    // on Lane::host_compute, over host memory
};

}  // namespace sluice::kernels
