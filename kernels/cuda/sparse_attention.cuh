// Attention that reads few values (AttentionRule::kept_millionths). A block has one query token
// with the query heads of one KV head, item after item. It scores all keys in sight, finds the ones
// whose values are kept, and adds those. A warp reads two rows of the cache at a time.
//
// Sums go in a fixed order, so that an item has the same bits in any company.
#pragma once

#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/score_rule.cuh"

namespace sluice::cuda {

constexpr int kSparseThreads = 256;
constexpr int kSparseLanes = 16;  // that share a row of the cache, eight elements each at a time
constexpr int kSparseRows = kSparseThreads / kSparseLanes;
constexpr int kSparseColumns = 8 * kSparseLanes;
constexpr int kSparsePieces = (kMostHeadDim + kSparseColumns - 1) / kSparseColumns;
constexpr int kSparseHeads = 8;  // query heads whose sums fit into registers

struct SparseCall {
  void* out;  // [.., query_heads x head_dim], as is query
  const void* query;
  DType activations;
  kernels::KvPages cache;
  HeadMap heads;
  kernels::KvBatch batch;
  PageDivider divider;
  ScoreRule rule;
  int kept_millionths;
  bool has_eights;  // rows can be loaded eight elements at a time
  int most_keys;    // that a query sees
  float* scratch;   // [gridDim.x, sparse_floats()]
};

/// Of an item: scores, then weights [group, keys]; their sums [keys]; the numbers of the keys that
/// are kept [keys]; totals [group].
__host__ __device__ constexpr std::int64_t sparse_floats(std::int64_t group, std::int64_t keys) {
  return (group + 2) * keys + group;
}

struct SparseRoom {
  float query[kSparseHeads * kMostHeadDim];
  float parts[kSparseRows * kSparseColumns];
  float of_warps[kSparseThreads / 32];
  unsigned counts[kSparseThreads];
  int above[kSparseThreads];
  int equal[kSparseThreads];
};

/// Weights above `bits` are kept, and the first `equals` of those that are equal.
struct SparseCut {
  unsigned bits;
  unsigned equals;
};

template <DType kType>
struct SparseItem {
  const SparseCall& call;
  SparseRoom& room;
  const std::int32_t* pages;
  const std::int32_t* old_pages;  // null: values lie where the keys do
  int first_new;                  // the first position that is not in them
  int kv_head;
  int position;      // of the query
  std::int64_t row;  // its first element in query and out
  float* scratch;

  __device__ int group() const { return call.heads.group; }
  __device__ int first_key() const { return call.rule.first_key(position); }
  __device__ int keys() const { return position - first_key() + 1; }
  __device__ float* weights(int head) const {
    return scratch + std::int64_t{head} * call.most_keys;
  }
  __device__ float* sums() const { return weights(group()); }
  __device__ int* kept() const { return reinterpret_cast<int*>(weights(group() + 1)); }
  __device__ float* totals() const { return weights(group() + 2); }
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int lane() { return thread() % kSparseLanes; }

  __device__ const std::byte* vector_of(int of, bool value) const {
    const std::int64_t bytes = row_bytes<kType>(call.cache.head_dim);
    const bool is_old = value && old_pages != nullptr && of < first_new;
    const void* const base = is_old ? call.cache.old_values : call.cache.base;
    return static_cast<const std::byte*>(base) +
           token_offset(call.cache, is_old ? old_pages : pages, call.divider, of, bytes) +
           head_offset(call.cache, kv_head, value, bytes);
  }

  /// Columns [piece * kSparseColumns + lane * 8, + 8) of the row of key `key`; zeros beyond.
  __device__ void load(int key, bool values, int piece, float (&to)[8]) const {
    const int dim = call.cache.head_dim;
    const int first = piece * kSparseColumns + lane() * 8;
    const std::byte* const from = vector_of(first_key() + key, values);
    if (call.has_eights && first < dim) {
      widen_eight<kType>(load_eight<kType>(from, dim, piece * kSparseLanes + lane()), to);
      return;
    }
    for (int i = 0; i < 8; ++i) {
      to[i] = first + i < dim ? element<kType>(from, dim, first + i) : 0.0F;
    }
  }

  __device__ void read_queries(int first_head, int heads) {
    const int dim = call.cache.head_dim;
    __syncthreads();
    for (int i = thread(); i < heads * kMostHeadDim; i += kSparseThreads) {
      const int d = i % kMostHeadDim;
      const std::int64_t at = row + std::int64_t{first_head + i / kMostHeadDim} * dim + d;
      room.query[i] =
          d < dim ? element_of(call.activations, call.query, at) * call.rule.factor : 0.0F;
    }
    __syncthreads();
  }

  __device__ void score(int first_head, int heads) {
    read_queries(first_head, heads);
    const int pieces = (call.cache.head_dim + kSparseColumns - 1) / kSparseColumns;
    for (int first = 0; first < keys(); first += kSparseRows) {
      const int key = first + thread() / kSparseLanes;
      float products[kSparseHeads] = {};
      for (int piece = 0; piece < pieces; ++piece) {
        float wide[8];
        load(min(key, keys() - 1), false, piece, wide);
        const float* const query = room.query + piece * kSparseColumns + lane() * 8;
#pragma unroll
        for (int h = 0; h < kSparseHeads; ++h) {
          if (h >= heads) break;
          for (int i = 0; i < 8; ++i) products[h] += query[h * kMostHeadDim + i] * wide[i];
        }
      }
#pragma unroll
      for (int h = 0; h < kSparseHeads; ++h) {
        if (h >= heads) break;
        for (int distance = kSparseLanes / 2; distance > 0; distance /= 2) {
          products[h] += __shfl_xor_sync(0xFFFFFFFFU, products[h], distance);
        }
        if (lane() != 0 || key >= keys()) continue;
        const float slope = call.rule.slope(kv_head * group() + first_head + h);
        weights(first_head + h)[key] = call.rule(products[h], slope, key - keys() + 1);
      }
    }
  }

  /// Sum, or maximum, over the block.
  template <typename Combine>
  __device__ float over_block(float of_warp, const Combine& combine) {
    __syncthreads();
    if (thread() % 32 == 0) room.of_warps[thread() / 32] = of_warp;
    __syncthreads();
    float all = room.of_warps[0];
    for (int warp = 1; warp < kSparseThreads / 32; ++warp) all = combine(all, room.of_warps[warp]);
    return all;
  }

  /// Scores become weights, which are to be divided by their totals; a thread has its own keys.
  __device__ void soften() {
    for (int h = 0; h < group(); ++h) {
      float* const weight = weights(h);
      float high = -INFINITY;
      for (int key = thread(); key < keys(); key += kSparseThreads) high = fmaxf(high, weight[key]);
      high = over_block(warp_max(high), [](float a, float b) { return fmaxf(a, b); });
      float total = 0;
      for (int key = thread(); key < keys(); key += kSparseThreads) {
        weight[key] = expf(weight[key] - high);
        total += weight[key];
      }
      total = over_block(warp_sum(total), [](float a, float b) { return a + b; });
      for (int key = thread(); key < keys(); key += kSparseThreads) {
        sums()[key] = (h == 0 ? 0.0F : sums()[key]) + weight[key] / total;
      }
      if (thread() == 0) totals()[h] = total;
    }
    __syncthreads();
  }

  /// Where the `kept` largest of the first `old` sums end, digit by digit of their bits.
  __device__ SparseCut find_cut(int old, int kept) {
    SparseCut cut{0, static_cast<unsigned>(kept)};
    if (kept >= old) return cut;
    unsigned known = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      room.counts[thread()] = 0;
      __syncthreads();
      for (int key = thread(); key < old; key += kSparseThreads) {
        const unsigned bits = __float_as_uint(sums()[key]);
        if ((bits & known) == cut.bits) atomicAdd(&room.counts[bits >> shift & 255U], 1U);
      }
      __syncthreads();
      unsigned digit = 255;
      for (; room.counts[digit] < cut.equals; --digit) cut.equals -= room.counts[digit];
      cut.bits |= digit << shift;
      known |= 255U << shift;
      __syncthreads();
    }
    return cut;
  }

  /// Lists the keys that are kept, in their order; returns how many they are.
  __device__ int list_kept() {
    const int old = keys() - 1;
    const std::int64_t millionths = call.kept_millionths;
    const int kept = static_cast<int>((old * millionths + 999'999) / 1'000'000);
    const SparseCut cut = find_cut(old, kept);
    const int share = (old + kSparseThreads - 1) / kSparseThreads;
    const int begin = min(old, thread() * share);
    const int end = min(old, begin + share);
    int above = 0;
    int equal = 0;
    for (int key = begin; key < end; ++key) {
      const unsigned bits = __float_as_uint(sums()[key]);
      above += bits > cut.bits ? 1 : 0;
      equal += bits == cut.bits ? 1 : 0;
    }
    room.above[thread()] = above;
    room.equal[thread()] = equal;
    __syncthreads();
    int place = 0;
    int equals = 0;
    for (int t = 0; t < thread(); ++t) {
      place += room.above[t];
      equals += room.equal[t];
    }
    place += min(equals, static_cast<int>(cut.equals));
    for (int key = begin; key < end; ++key) {
      const unsigned bits = __float_as_uint(sums()[key]);
      const bool is_equal = bits == cut.bits;
      const bool is_kept = bits > cut.bits || (is_equal && equals < static_cast<int>(cut.equals));
      equals += is_equal ? 1 : 0;
      if (is_kept) kept_at(place++, key);
    }
    if (thread() == 0) kept_at(kept, old);
    __syncthreads();
    return kept + 1;
  }
  __device__ void kept_at(int place, int key) { kept()[place] = key; }

  __device__ void add_values(int first_head, int heads, int piece, int count) {
    float sum[kSparseHeads][8] = {};
    const int mine = thread() / kSparseLanes;
    for (int place = mine; place < count; place += kSparseRows) {
      const int key = kept()[place];
      float wide[8];
      load(key, true, piece, wide);
#pragma unroll
      for (int h = 0; h < kSparseHeads; ++h) {
        if (h >= heads) break;
        const float weight = weights(first_head + h)[key];
        for (int i = 0; i < 8; ++i) sum[h][i] += weight * wide[i];
      }
    }
#pragma unroll
    for (int h = 0; h < kSparseHeads; ++h) {
      if (h >= heads) break;
      __syncthreads();
      for (int i = 0; i < 8; ++i) {
        room.parts[mine * kSparseColumns + lane() * 8 + i] = sum[h][i];
      }
      __syncthreads();
      put(first_head + h, piece);
    }
  }

  /// What the rows of the block have of a piece of a head's result.
  __device__ void put(int head, int piece) const {
    const int column = piece * kSparseColumns + thread();
    if (thread() >= kSparseColumns || column >= call.cache.head_dim) return;
    float all = 0;
    for (int part = 0; part < kSparseRows; ++part) {
      all += room.parts[part * kSparseColumns + thread()];
    }
    put_element(call.activations, call.out, row + std::int64_t{head} * call.cache.head_dim + column,
                all / totals()[head]);
  }

  __device__ void run() {
    for (int head = 0; head < group(); head += kSparseHeads) {
      score(head, min(kSparseHeads, group() - head));
    }
    __syncthreads();
    soften();
    const int count = list_kept();
    const int pieces = (call.cache.head_dim + kSparseColumns - 1) / kSparseColumns;
    for (int head = 0; head < group(); head += kSparseHeads) {
      for (int piece = 0; piece < pieces; ++piece) {
        add_values(head, min(kSparseHeads, group() - head), piece, count);
      }
    }
    __syncthreads();
  }
};

/// Grid: x items at a time.
template <DType kType>
__global__ void __launch_bounds__(kSparseThreads) sparse_attention_kernel(SparseCall call) {
  __shared__ SparseRoom room;
  const int kv_heads = call.cache.kv_heads;
  const std::int64_t floats = sparse_floats(call.heads.group, call.most_keys);
  for (int index = static_cast<int>(blockIdx.x);; index += static_cast<int>(gridDim.x)) {
    const SequenceTile found = find_tile(call.batch, index / kv_heads, 1, 1);
    const int s = found.sequence;
    if (s == call.batch.sequences) return;
    const int kv_head = index % kv_heads;
    const std::int64_t row = std::int64_t{call.batch.first_row[s] + found.tile};
    const int head = kv_head * call.heads.group;
    SparseItem<kType> item{call,
                           room,
                           call.batch.pages + std::int64_t{s} * call.batch.max_pages,
                           call.cache.old_values == nullptr
                               ? nullptr
                               : call.batch.old_pages + std::int64_t{s} * call.batch.max_pages,
                           call.batch.context[s] - call.batch.new_tokens[s],
                           kv_head,
                           call.batch.context[s] - call.batch.new_tokens[s] + found.tile,
                           (row * call.heads.query_heads + head) * call.cache.head_dim,
                           call.scratch + static_cast<std::int64_t>(blockIdx.x) * floats};
    item.run();
  }
}

}  // namespace sluice::cuda
