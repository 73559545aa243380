// New keys and values into their pages: copied, narrowed or quantised. A group of lanes takes the
// keys or the values of one KV head and goes from token to token. It reads several tokens before it
// writes them. Bound by memory.
#pragma once

#include "kernels/cuda/kv_rows.cuh"
#include "kernels/cuda/pack_group.cuh"

namespace sluice::cuda {

constexpr int kAppendThreads = 128;
constexpr int kAppendTokens = 16;  // per block; at most a warp's lanes

struct AppendCall {
  kernels::KvPages cache;
  kernels::KvBatch batch;
  PageDivider divider;
  const void* keys;  // [.., kv_heads x head_dim], as are values
  const void* values;
  DType keys_dtype;
  DType values_dtype;
  std::int64_t vector_bytes;  // of the cache
  int lane_bits;              // a group is 2^lane_bits lanes: 8, 16 or 32
};

/// Vectors of a group of lanes.
struct AppendVectors {
  int tokens;  // of the block
  int lane;    // of the group
  bool there;  // else there is no such head: the group reads another's vectors, and writes nothing
  const void* from;
  DType dtype;
  std::int64_t first;  // vector of `from`
  int step;            // from token to token
  std::byte* to;
  std::int64_t offset;  // of the token of the lane's number: bytes from `to` to its vector

  /// Bytes from `to` to a token's vector. Every lane of the warp calls.
  __device__ std::int64_t row(int token) const { return __shfl_sync(~0U, offset, token); }
};

__device__ inline SequenceTile append_tile(const AppendCall& call) {
  return find_tile(call.batch, static_cast<int>(blockIdx.x), kAppendTokens, 1);
}

/// Grid: x most_tiles() of kAppendTokens, y keys of all KV heads, then values, by groups of lanes.
__device__ inline AppendVectors append_vectors(const AppendCall& call, const SequenceTile& found) {
  const int s = found.sequence;
  AppendVectors vectors;
  const int heads = call.cache.kv_heads;
  const int thread = static_cast<int>(threadIdx.x);
  const int first = found.tile * kAppendTokens;
  const int index = static_cast<int>(blockIdx.y) * (kAppendThreads >> call.lane_bits) +
                    (thread >> call.lane_bits);
  vectors.tokens = min(kAppendTokens, call.batch.new_tokens[s] - first);
  vectors.lane = thread & ((1 << call.lane_bits) - 1);
  vectors.there = index < 2 * heads;
  const int which = vectors.there ? index : 0;  // as they lie in a page
  const bool values = which >= heads;
  vectors.from = values ? call.values : call.keys;
  vectors.dtype = values ? call.values_dtype : call.keys_dtype;
  vectors.first =
      (std::int64_t{call.batch.first_row[s]} + first) * heads + (values ? which - heads : which);
  vectors.step = heads;
  vectors.to = static_cast<std::byte*>(call.cache.base) +
               std::int64_t{which} * call.divider.tokens * call.vector_bytes;
  vectors.offset = 0;
  if (const int token = thread % 32; token < vectors.tokens) {
    const std::int32_t position = call.batch.context[s] - call.batch.new_tokens[s] + first + token;
    const std::int32_t page = call.divider.page(position);
    vectors.offset = call.batch.pages[std::int64_t{s} * call.batch.max_pages + page] *
                         call.cache.page_stride_bytes +
                     (position - page * call.divider.tokens) * call.vector_bytes;
  }
  return vectors;
}

/// Cache and activations are of one dtype, their vectors whole words, aligned.
static __global__ void append_words_kernel(AppendCall call) {
  const SequenceTile found = append_tile(call);
  if (found.sequence == call.batch.sequences) return;
  const AppendVectors vectors = append_vectors(call, found);
  constexpr int kAhead = 4;
  const int words = static_cast<int>(call.vector_bytes / 16);
  const auto* const from = static_cast<const uint4*>(vectors.from) + vectors.first * words;
  const int step = vectors.step * words;
  for (int token = 0; token < vectors.tokens; token += kAhead) {
    std::int64_t rows[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) rows[i] = vectors.row(token + i);
    for (int word = vectors.lane; word < words; word += 1 << call.lane_bits) {
      uint4 kept[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        kept[i] = from[std::int64_t{min(token + i, vectors.tokens - 1)} * step + word];
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (token + i < vectors.tokens && vectors.there) {
          store_words(vectors.to + rows[i] + word * 16, kept[i]);
        }
      }
    }
  }
}

/// Any dense cache and activations, element by element.
template <DType kType>
__global__ void append_elements_kernel(AppendCall call) {
  const SequenceTile found = append_tile(call);
  if (found.sequence == call.batch.sequences) return;
  const AppendVectors vectors = append_vectors(call, found);
  const int dim = call.cache.head_dim;
  for (int token = 0; token < vectors.tokens; ++token) {
    auto* const row =
        reinterpret_cast<typename Element<kType>::Type*>(vectors.to + vectors.row(token));
    const std::int64_t at = (vectors.first + std::int64_t{token} * vectors.step) * dim;
    if (!vectors.there) continue;
    for (int i = vectors.lane; i < dim; i += 1 << call.lane_bits) {
      narrow(element_of(vectors.dtype, vectors.from, at + i), row + i);
    }
  }
}

/// A lane's elements of a group of 64: two quads, 32 apart, as a word of q4 has them. Instead of
/// those that are not in the row the lane has others of the group, which change no maximum, and
/// their codes are masked.
struct AppendPlace {
  int dim;
  int group;
  int first[2];      // of each quad
  unsigned mask[2];  // of its codes, a byte each

  __device__ AppendPlace(int head_dim, int lane) : dim(head_dim), group(lane / 8) {
    if (group * 64 >= dim) group = 0;
#pragma unroll
    for (int quad = 0; quad < 2; ++quad) {
      first[quad] = group * 64 + quad * 32 + lane % 8 * 4;
      const int has = min(max(dim - first[quad], 0), 4);
      mask[quad] = has > 0 ? ~0U >> (32 - 8 * has) : 0U;
      if (has == 0) first[quad] = group * 64;
    }
  }
};

/// Where a lane's two quads of T are, aligned as a whole, in the first of its vectors.
template <class T>
struct QuadSource {
  const std::byte* quad[2];
  int step;  // bytes from token to token

  __device__ QuadSource(const AppendVectors& vectors, const AppendPlace& place)
      : step(vectors.step * place.dim * static_cast<int>(sizeof(T))) {
    const T* const from = static_cast<const T*>(vectors.from) + vectors.first * place.dim;
#pragma unroll
    for (int i = 0; i < 2; ++i) quad[i] = reinterpret_cast<const std::byte*>(from + place.first[i]);
  }
  __device__ const std::byte* at(int i, int token) const {
    return quad[i] + std::int64_t{token} * step;
  }
};

/// A lane's eight elements, of 16 bits.
template <class T>
struct AppendQuads {
  static constexpr int kAhead = 4;  // vectors on their way
  using Source = QuadSource<T>;
  uint2 quad[2];

  __device__ void load(const Source& source, int token) {
#pragma unroll
    for (int i = 0; i < 2; ++i) quad[i] = load_aligned<uint2>(source.at(i, token));
  }
  __device__ void widen(float (&to)[8]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 low = widen_word<T>(quad[i].x);
      const float2 high = widen_word<T>(quad[i].y);
      to[4 * i] = low.x, to[4 * i + 1] = low.y, to[4 * i + 2] = high.x, to[4 * i + 3] = high.y;
    }
  }
  __device__ GroupEnds ends() const { return ends_of<T>(quad); }
};

struct AppendFloats {
  float value[8];

  __device__ void widen(float (&to)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = value[i];
  }
  __device__ GroupEnds ends() const { return ends_of(value); }
};

template <>
struct AppendQuads<float> : AppendFloats {
  static constexpr int kAhead = 2;
  using Source = QuadSource<float>;

  __device__ void load(const Source& source, int token) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto quad = load_aligned<float4>(source.at(i, token));
      value[4 * i] = quad.x, value[4 * i + 1] = quad.y;
      value[4 * i + 2] = quad.z, value[4 * i + 3] = quad.w;
    }
  }
};

/// Of any dtype and alignment.
struct AppendAny : AppendFloats {
  static constexpr int kAhead = 1;
  struct Source {
    AppendVectors vectors;
    AppendPlace place;
  };

  __device__ void load(const Source& source, int token) {
    const AppendPlace& place = source.place;
    const std::int64_t vector = source.vectors.first + std::int64_t{token} * source.vectors.step;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int element = place.first[i / 4] + i % 4;
      value[i] =
          element_of(source.vectors.dtype, source.vectors.from,
                     vector * place.dim + (element < place.dim ? element : place.group * 64));
    }
  }
};

/// Where a lane's codes go, and its group's scale, of the vector at `to`.
template <DType kType>
struct CodesTarget {
  std::byte* codes;  // null: nowhere
  std::byte* scale;  // null: another lane has it

  __device__ CodesTarget(std::byte* to, const AppendPlace& place, int lane, bool there) {
    constexpr int kCodes = kType == DType::q8 ? 64 : 32;
    const int groups = (place.dim + 63) / 64;
    codes = there && lane / 8 == place.group ? to + place.group * kCodes + lane % 8 * 4 : nullptr;
    scale = codes != nullptr && lane % 8 == 0 ? to + groups * kCodes + place.group * 4 : nullptr;
  }
};

/// Every lane of the warp calls. row: bytes from the target to that of the vector.
template <DType kType, class Elements>
__device__ inline void append_group(const Elements& elements, const AppendPlace& place,
                                    const CodesTarget<kType>& target, std::int64_t row) {
  const GroupScale packed = scale_of<kType>(elements.ends());
  const float minimum = __half2float(packed.minimum);
  const float part = part_of<kType>(packed);
  float value[8];
  elements.widen(value);
  const unsigned low = codes_of<kType>(value, minimum, part) & place.mask[0];
  const unsigned high = codes_of<kType>(value + 4, minimum, part) & place.mask[1];
  if (target.codes == nullptr) return;
  auto* const codes = reinterpret_cast<unsigned*>(target.codes + row);
  if constexpr (kType == DType::q8) {
    codes[0] = low;
    codes[8] = high;
  } else {
    codes[0] = low | high << 4U;
  }
  if (target.scale != nullptr) {
    *reinterpret_cast<unsigned*>(target.scale + row) =
        __half_as_ushort(packed.scale) | unsigned{__half_as_ushort(packed.minimum)} << 16U;
  }
}

/// Caches of q8 and q4; a head longer than a group of lanes is taken in turns.
template <DType kType, class Elements>
__global__ void __launch_bounds__(kAppendThreads, 7) append_codes_kernel(AppendCall call) {
  const SequenceTile found = append_tile(call);
  if (found.sequence == call.batch.sequences) return;
  const AppendVectors vectors = append_vectors(call, found);
  constexpr int kAhead = Elements::kAhead;
  const int dim = call.cache.head_dim;
  for (int first = 0; first * 8 < dim; first += 1 << call.lane_bits) {
    const int lane = first + vectors.lane;
    const AppendPlace place(dim, lane);
    const typename Elements::Source source{vectors, place};
    const CodesTarget<kType> target(vectors.to, place, lane, vectors.there);
    for (int token = 0; token < vectors.tokens; token += kAhead) {
      Elements elements[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        elements[i].load(source, min(token + i, vectors.tokens - 1));
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (token + i >= vectors.tokens) break;
        append_group<kType>(elements[i], place, target, vectors.row(token + i));
      }
    }
  }
}

}  // namespace sluice::cuda
