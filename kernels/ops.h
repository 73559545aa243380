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

enum class Activation : std::uint8_t {
  none,
  relu,
  gelu,        // x Phi(x), the exact (erf) form
  gelu_tanh,   // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  quick_gelu,  // x sigmoid(1.702 x)
  silu         // x sigmoid(x)
};

/// Turns pairs of elements of every head by an angle that grows with the position (Su et al.,
/// "RoFormer", 2021). The angle of pair i at position p is p * frequencies[i], in f32.
struct Rotation {
  std::int32_t head_dim = 0;  // the rows hold heads of this width
  std::int32_t width = 0;     // even; the first elements of a head that turn, the rest stays
  bool neighbours = false;    // pairs are (2i, 2i + 1), else (i, i + width / 2)
  float factor = 1.0F;        // on sine and cosine
  /// [width / 2] in the lane's memory. A position p < 0 means ~p, turned by the second list of
  /// [width / 2] that then follows the first.
  const float* frequencies = nullptr;

  bool operator==(const Rotation&) const = default;
};

/// How a score comes from the product of a query with a key, and which keys a query sees. In this
/// order: scale, soft cap, linear bias, then only keys in sight enter the softmax.
struct AttentionRule {
  float scale = 1.0F;
  float soft_cap = 0.0F;  // c > 0: the score becomes c tanh(score / c)
  /// a > 0: adds a * slope * (position of the key - position of the query), with the slope of
  /// the query head (alibi_slope()).
  float alibi = 0.0F;
  std::int32_t window = 0;  // w > 0: position i sees the w keys i - w < j <= i only
  /// p > 0: sparse attention. Scores and softmax are over all keys in sight. Of the values only the
  /// newest key's and kept_values() of the others are read: for each query and KV head those with
  /// the largest weights, summed over the query heads that share it; of equals the earlier ones.
  /// Their weights stay what the softmax over all keys gave. Not with q8 and q4. Source: FlexGen
  /// (Sheng et al., 2023), section 4, "Sparse attention"; it has a KV head for each query head.
  std::int32_t kept_millionths = 0;

  bool operator==(const AttentionRule&) const = default;
};

/// Of `old` keys in sight before the newest one: at least one, where there is any.
constexpr std::int64_t kept_values(std::int64_t old, std::int32_t kept_millionths) {
  constexpr std::int64_t kAll = 1'000'000;
  return kept_millionths > 0 ? (old * kept_millionths + kAll - 1) / kAll : old;
}

/// Sparse attention has scratch for this many of (query heads of a KV head + 2) x keys in sight.
constexpr std::int64_t kMostSparseScores = 2'000'000;

/// Of query head `head` of `heads` (Press et al., "ALiBi", 2021, for any number of heads as in
/// Hugging Face build_alibi_tensor).
float alibi_slope(std::int32_t head, std::int32_t heads);

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
  /// Where it is not null, sparse attention reads the values of tokens before the batch's new ones
  /// from pages like these at this address, by the numbers of KvBatch::old_pages. It may be host
  /// memory that the lane reaches over a link: few values are read.
  const void* old_values = nullptr;

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
///   old_pages  likewise, with KvPages::old_values; else null
struct KvBatch {
  std::int32_t sequences = 0;
  std::int32_t max_pages = 0;
  const std::int32_t* first_row = nullptr;
  const std::int32_t* new_tokens = nullptr;
  const std::int32_t* context = nullptr;
  const std::int32_t* pages = nullptr;
  const std::int32_t* old_pages = nullptr;

  bool operator==(const KvBatch&) const = default;
};

constexpr std::int32_t kMostExperts = 1024;      // of a layer
constexpr std::int32_t kMostChosenExperts = 32;  // of a row
constexpr std::int32_t kMostExpertGroups = 64;

/// What a router's logits become before the best are chosen.
enum class RouterScore : std::uint8_t {
  softmax,  // over all experts
  sigmoid,  // of each
  /// Two experts, each with its own softmax over those that are near it: sparse_mixer() of Hugging
  /// Face modeling_phimoe.py without its noise.
  sparse_mixer
};

/// Which experts a row goes to, and with what weights. Of equal scores the lower number is chosen.
struct RouterRule {
  std::int32_t chosen = 0;  // experts of a row
  RouterScore score = RouterScore::softmax;
  bool normalised = false;  // the chosen weights are divided by their sum
  float scale = 1.0F;       // ... and then multiplied with this
  /// Neighbours in groups of equal size. Only experts of the best `kept_groups` may be chosen; a
  /// group is as good as the sum of its `group_best` best.
  std::int32_t groups = 1;
  std::int32_t kept_groups = 1;
  std::int32_t group_best = 1;
  float nearness = 0;  // sparse_mixer: twice router_jitter_noise

  bool operator==(const RouterRule&) const = default;
};

/// Rows in the order of their experts, then of their numbers. In the lane's memory.
struct RoutedRows {
  std::int32_t* counts = nullptr;  // [experts]: rows of each
  std::int32_t* rows = nullptr;    // [rows * chosen]
  float* weights = nullptr;        // [rows * chosen], of the same order
  std::int32_t* chosen = nullptr;  // scratch [rows * chosen]
  float* scores = nullptr;         // scratch [rows * chosen]

  bool operator==(const RoutedRows&) const = default;
};

/// Where the rows of a sum go to, and what they are multiplied with. In the lane's memory.
struct RowFactors {
  const std::int32_t* rows = nullptr;  // [in.rows], all different; null: row i goes to row i
  const float* factors = nullptr;      // [in.rows]; null: 1
  bool sigmoids = false;               // the factors are the sigmoids of these numbers

  bool operator==(const RowFactors&) const = default;
};

constexpr std::int32_t kMostCandidates = 20;

/// A change to one token's logit.
struct TokenEdit {
  std::int32_t token = 0;
  float value = 0.0F;  // may be infinite where it is subtracted: then the token is ruled out
};

/// What is wanted of one row of logits. The meaning of each is stage::Sampler's.
struct SampleRow {
  double uniform = 0.0;             // in [0, 1): the only source of chance
  float temperature = 0.0F;         // 0: greedy
  float top_p = 1.0F;               // (0, 1]
  float min_p = 0.0F;               // [0, 1]; 0: all
  float repetition_penalty = 1.0F;  // > 0
  std::int32_t top_k = 0;           // 0: all
  std::int32_t logprobs = -1;       // -1: none; n: the token's own and the n likeliest
  std::int32_t token = -1;          // >= 0: nothing is chosen, this one is scored
  /// The row's edits begin here in SampleLists::edits. First come `biases`: value is added to the
  /// token's logit. Then `repeated`: repetition_penalty is applied, and value subtracted. Then
  /// `others`: value is subtracted. A token is once at most among the biases, and once at most
  /// among the rest.
  std::int32_t first_edit = 0;
  std::int32_t biases = 0;
  std::int32_t repeated = 0;
  std::int32_t others = 0;
  /// >= 0: the row's words in SampleLists::masks begin here.
  std::int32_t first_mask_word = -1;
  /// Of a beam search: log-probabilities are edited, not logits, and are told as edited. The token
  /// is the likeliest of them.
  bool of_beam = false;
};

/// What the rows of a call refer to.
struct SampleLists {
  const TokenEdit* edits = nullptr;
  /// Of a row [ceil(vocabulary / 32)]: bit t % 32 of word t / 32 says that token t may follow. The
  /// others are ruled out after all edits.
  const std::uint32_t* masks = nullptr;

  bool operator==(const SampleLists&) const = default;
};

/// In place of a token.
constexpr std::int32_t kNotFinite = -1;    // a logit is NaN, or none is finite
constexpr std::int32_t kAllRuledOut = -2;  // edits or the mask left no finite one

struct SampledRow {
  std::int32_t token = kNotFinite;  // or kAllRuledOut
  float logprob = 0.0F;  // of the model, before temperature and edits (but SampleRow::of_beam)
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

  /// out = in / sqrt(mean(in^2) + epsilon) * (offset + weight), per row; out may be in.
  /// weight: [1, width], or empty: then 1. A view of [rows * heads, head width] norms every head.
  virtual void rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                        float offset) = 0;

  /// Turns every head of rows [tokens, heads * rotation.head_dim] in place; positions: i32
  /// [tokens].
  virtual void rotate(TensorView rows, const Rotation& rotation, const std::int32_t* positions) = 0;

  /// rows *= factor, in place.
  virtual void scale(TensorView rows, float factor) = 0;

  /// rows = cap tanh(rows / cap), in place; cap > 0.
  virtual void soft_cap(TensorView rows, float cap) = 0;

  /// out += in, of one shape and dtype.
  virtual void add(TensorView out, TensorView in) = 0;

  /// out[i, c] = in[i, c] for the columns of `in`, and 0 for those beyond; no overlap.
  virtual void widen_rows(TensorView out, TensorView in) = 0;

  /// rows = 0.
  virtual void clear(TensorView rows) = 0;

  /// rows = min(max(rows, -limit), limit), in place; limit > 0.
  virtual void clamp(TensorView rows, float limit) = 0;

  /// Chooses experts for rows of logits f32 [rows, experts], which may be overwritten. correction
  /// [1, experts] f32, f16 or bf16, or empty: added to the scores where they are compared, never to
  /// the weights. Whatever the logits are, each row gets rule.chosen different experts.
  /// Source: Hugging Face MixtralSparseMoeBlock, DeepseekV3TopkRouter, PhiMoE sparsemixer.
  virtual void route(const RoutedRows& routed, TensorView logits, TensorView correction,
                     const RouterRule& rule) = 0;

  /// out[rows[i], :] += factors[i] * in[i, :]. out and in of one width, each of its own dtype.
  virtual void add_rows(TensorView out, TensorView in, const RowFactors& where) = 0;

  /// out = activation(in W^T + bias) + residual. in [n, K], weight [N, K], out [n, N] (torch
  /// Linear). bias [1, N] or empty; residual [n, N] or empty, and may be out. out must not overlap
  /// in. With q8 or q4 weights the CPU rounds `in` to 8 bits a row and group (linear_quantized.h).
  virtual void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                      Activation activation, TensorView residual) = 0;

  /// out = (in W^T + bias) * factor, element by element: the second product of a gated MLP. As
  /// linear(); factor [n, N] of out's dtype, may be out.
  virtual void linear_times(TensorView out, TensorView in, const SplitMatrix& weight,
                            TensorView bias, TensorView factor) = 0;

  /// Writes keys and values of the new tokens ([rows, kv_heads * head_dim]) into their pages. Pages
  /// of earlier tokens alone may have any number.
  virtual void append_kv(const KvPages& cache, const KvBatch& batch, TensorView keys,
                         TensorView values) = 0;

  /// Causal attention of the new tokens over their sequence's cache (append_kv came first).
  /// query, out: [rows, query_heads * head_dim]; only rows named by the batch are read and written.
  /// The width of the query says how many query heads there are: a multiple of cache.kv_heads.
  /// Query head h attends KV head h / (query_heads / kv_heads) (Hugging Face repeat_kv; Ainslie et
  /// al., "GQA", 2023). Softmax in f32. Pages that no new token sees (rule.window) are not read and
  /// may have any number.
  virtual void attention(TensorView out, TensorView query, const KvPages& cache,
                         const KvBatch& batch, const AttentionRule& rule) = 0;

  /// out[i] = what rows[i] asks of logits[i, :] (f32). Everything lies in the lane's memory; logits
  /// may be overwritten. Only where BackendInfo::samples: elsewhere throws DeviceError.
  virtual void sample(SampledRow* out, TensorView logits, const SampleRow* rows,
                      const SampleLists& lists);
};

/// A backend with the operations of its two computing lanes. Members are destroyed in reverse
/// order.
struct Engine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Ops> device_ops;  // on Lane::compute, over device memory
  std::unique_ptr<Ops> host_ops;    // on Lane::host_compute, over host memory
};

}  // namespace sluice::kernels
