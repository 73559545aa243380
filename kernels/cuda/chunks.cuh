// Eight neighbours of a row at once: 16 bytes of 16-bit elements a load. For kernels bound by
// memory; where rows do not begin on 16 bytes or do not end with a chunk, those go element by
// element (element_of, store_element), in loops of their own that cost the compiler little.
#pragma once

#include <cassert>
#include <cstdint>
#include <cstring>

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

constexpr int kChunk = 8;

/// The first of the 8 columns that are this thread's, on a RowGrid (dispatch.cuh).
__device__ inline std::int64_t chunk_column() {
  return (std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kChunk;
}

/// A T at `from`, which is aligned to its size, in one load. (The host's compiler must not take it
/// for an object of type T, nvcc makes a memcpy a load for every byte.)
template <class T>
__device__ inline T load_aligned(const void* from) {
#ifdef __CUDACC__
  return *static_cast<const T*>(from);
#else
  assert(reinterpret_cast<std::uintptr_t>(from) % sizeof(T) == 0);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
#endif
}
template <class T>
__device__ inline void store_aligned(void* to, const T& value) {
#ifdef __CUDACC__
  *static_cast<T*>(to) = value;
#else
  assert(reinterpret_cast<std::uintptr_t>(to) % sizeof(T) == 0);
  std::memcpy(to, &value, sizeof(T));
#endif
}
/// 16 bytes of global memory, aligned, in one store: nvcc takes a plain one apart where its words
/// are made one after the other.
__device__ inline void store_words(void* to, const uint4& words) {
#ifdef __CUDACC__
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
#else
  assert(reinterpret_cast<std::uintptr_t>(to) % sizeof(words) == 0);
  std::memcpy(to, &words, sizeof(words));
#endif
}

__device__ inline float2 widen_pair(__half2 pair) { return __half22float2(pair); }
__device__ inline float2 widen_pair(__nv_bfloat162 pair) { return __bfloat1622float2(pair); }
__device__ inline void narrow_pair(float low, float high, __half2* to) {
  *to = __floats2half2_rn(low, high);
}
__device__ inline void narrow_pair(float low, float high, __nv_bfloat162* to) {
  *to = __floats2bfloat162_rn(low, high);
}

template <class T>
struct PairOf;
template <>
struct PairOf<__half> {
  using Type = __half2;
};
template <>
struct PairOf<__nv_bfloat16> {
  using Type = __nv_bfloat162;
};

/// Two 16-bit elements in a word.
template <class T>
__device__ inline float2 widen_word(unsigned word) {
  typename PairOf<T>::Type pair;
  memcpy(static_cast<void*>(&pair), &word, sizeof(pair));
  return widen_pair(pair);
}
template <class T>
__device__ inline unsigned narrow_word(float low, float high) {
  typename PairOf<T>::Type pair;
  narrow_pair(low, high, &pair);
  unsigned word = 0;
  memcpy(&word, &pair, sizeof(word));
  return word;
}

/// Eight elements as they lie in memory.
template <class T>
struct Chunk {
  static constexpr int kWords = kChunk * static_cast<int>(sizeof(T)) / 16;
  uint4 words[kWords];

  /// from[0 .. 8), 16-byte aligned.
  __device__ static Chunk load(const T* from) {
    Chunk chunk;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      chunk.words[i] = load_aligned<uint4>(from + i * kChunk / kWords);
    }
    return chunk;
  }

  __device__ void widen(float (&to)[kChunk]) const {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const unsigned word[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if constexpr (kWords == 2) {
          to[4 * i + j] = __uint_as_float(word[j]);
        } else {
          const float2 pair = widen_word<T>(word[j]);
          to[2 * j] = pair.x;
          to[2 * j + 1] = pair.y;
        }
      }
    }
  }
};

template <class T>
__device__ inline void read_chunk(const T* from, float (&to)[kChunk]) {
  Chunk<T>::load(from).widen(to);
}

template <class T>
__device__ inline void write_chunk(const float (&from)[kChunk], T* to) {
  store_words(to, uint4{narrow_word<T>(from[0], from[1]), narrow_word<T>(from[2], from[3]),
                        narrow_word<T>(from[4], from[5]), narrow_word<T>(from[6], from[7])});
}
template <>
__device__ inline void write_chunk<float>(const float (&from)[kChunk], float* to) {
  store_words(to, uint4{__float_as_uint(from[0]), __float_as_uint(from[1]),
                        __float_as_uint(from[2]), __float_as_uint(from[3])});
  store_words(to + 4, uint4{__float_as_uint(from[4]), __float_as_uint(from[5]),
                            __float_as_uint(from[6]), __float_as_uint(from[7])});
}

/// Elements [first, first + 8) of a row of a dtype known when it runs: f32, f16 or bf16.
__device__ inline void read_chunk_of(DType dtype, const void* row, std::int64_t first,
                                     float (&to)[kChunk]) {
  if (dtype == DType::f32) {
    read_chunk(static_cast<const float*>(row) + first, to);
  } else if (dtype == DType::f16) {
    read_chunk(static_cast<const __half*>(row) + first, to);
  } else {
    read_chunk(static_cast<const __nv_bfloat16*>(row) + first, to);
  }
}
__device__ inline void write_chunk_of(DType dtype, const float (&from)[kChunk], void* row,
                                      std::int64_t first) {
  if (dtype == DType::f32) {
    write_chunk(from, static_cast<float*>(row) + first);
  } else if (dtype == DType::f16) {
    write_chunk(from, static_cast<__half*>(row) + first);
  } else {
    write_chunk(from, static_cast<__nv_bfloat16*>(row) + first);
  }
}
__device__ inline void store_element(DType dtype, float value, void* row, std::int64_t column) {
  if (dtype == DType::f32) {
    static_cast<float*>(row)[column] = value;
  } else if (dtype == DType::f16) {
    narrow(value, static_cast<__half*>(row) + column);
  } else {
    narrow(value, static_cast<__nv_bfloat16*>(row) + column);
  }
}

/// Elements [column, column + 8) of a row of any dtype, whose columns are a multiple of 8; a dense
/// row is 16-byte aligned, a quantised one 4.
template <DType kType>
__device__ inline void read_row_chunk(const std::byte* row, std::int64_t columns,
                                      std::int64_t column, float (&to)[kChunk]) {
  if constexpr (kType == DType::q8 || kType == DType::q4) {
    const GroupScale packed = group_scale<kType>(row, columns, column / kQuantGroup);
    const float scale = __half2float(packed.scale);
    const float minimum = __half2float(packed.minimum);
    const std::int64_t at = column % kQuantGroup;
    constexpr std::int64_t kHalf = kQuantGroup / 2;
    const bool high = kType == DType::q4 && at >= kHalf;
    const std::byte* const codes =
        kType == DType::q8 ? row + column
                           : row + column / kQuantGroup * kHalf + (high ? at - kHalf : at);
    const unsigned word[2] = {load_aligned<unsigned>(codes), load_aligned<unsigned>(codes + 4)};
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      unsigned code = word[i / 4] >> (i % 4 * 8) & 255U;
      if constexpr (kType == DType::q4) code = high ? code >> 4U : code & 15U;
      to[i] = minimum + scale * static_cast<float>(code);
    }
  } else {
    read_chunk(reinterpret_cast<const typename Element<kType>::Type*>(row) + column, to);
  }
}

}  // namespace sluice::cuda
