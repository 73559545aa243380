// From a row of logits to a token, one block per row, as stage::Sampler defines it, without
// sorting.
//
// A float's order is that of its key, a 32-bit number, so the k-th likeliest token and the border
// of a nucleus are found by bisection over keys; equal keys go by id. Weights are counted in whole
// units of 2^-44 of the greatest token's: sums of integers are exact in any order, so a border is
// where it is, and a draw hits a token that has a weight. What that leaves out of a vocabulary of
// 2^17 is 2^-28 of all.
//
// Once few tokens are left above the border, they are copied to shared memory, and the rest of the
// row is not read again.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace sluice::cuda {

constexpr unsigned kSampleThreads = 512;
/// Tokens that shared memory has room for.
constexpr unsigned kSampleList = 1024;
/// A number of tokens, a weight in units, or a token with its key: whatever a block reduces.
using Number = unsigned long long;
constexpr float kWeightUnit = 17592186044416.0F;  // 2^44: those of 2^19 tokens add up in 64 bits

/// Monotone in the value; -0 is 0. Not of NaN.
__device__ inline unsigned key_of(float value) {
  const auto bits = __builtin_bit_cast(unsigned, value + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float value_of(unsigned key) {
  return __builtin_bit_cast(float, (key & 0x80000000U) != 0 ? key ^ 0x80000000U : ~key);
}

/// Greater means likelier; equals by id. Never kNoNumber.
__device__ inline Number ranked(float value, std::int32_t id) {
  return Number{key_of(value)} << 32U | ~static_cast<unsigned>(id);
}
constexpr Number kNoNumber = ~Number{0};
constexpr unsigned kLeastKey = 0x007FFFFFU;  // of -infinity
__device__ inline bool is_finite(float value) { return fabsf(value) <= 3.402823466e38F; }
__device__ inline std::int32_t id_of(Number rank) {
  return static_cast<std::int32_t>(~static_cast<unsigned>(rank));
}
__device__ inline float value_of(Number rank) {
  return value_of(static_cast<unsigned>(rank >> 32U));
}

/// What a block samples with, in shared memory.
struct SampleRoom {
  Number partial[32];
  float score[kSampleList];
  std::int32_t id[kSampleList];
  unsigned listed;
};

/// Over the block, in every thread. combine(a, 0) must be a.
template <class Combine>
__device__ Number block_reduce(Number value, Number* partial, const Combine& combine) {
  const auto over_warp = [&combine](Number of_thread) {
    for (int distance = 16; distance > 0; distance /= 2) {
      of_thread = combine(of_thread, __shfl_xor_sync(0xFFFFFFFFU, of_thread, distance));
    }
    return of_thread;
  };
  const unsigned lane = threadIdx.x % 32;
  value = over_warp(value);
  __syncthreads();  // the last result has been read
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return over_warp(lane < blockDim.x / 32 ? partial[lane] : 0);
}
__device__ inline Number block_total(Number value, Number* partial) {
  return block_reduce(value, partial, [](Number a, Number b) { return a + b; });
}
__device__ inline Number block_greatest(Number value, Number* partial) {
  return block_reduce(value, partial, [](Number a, Number b) { return a > b ? a : b; });
}

/// The likeliest token of those ranked below `limit` (0: none is); with kNoNumber as the limit, of
/// all, or kNoNumber where a value is NaN.
__device__ inline Number likeliest(const float* values, std::int32_t count, Number limit,
                                   Number* partial) {
  Number best = 0;
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < count;
       i += static_cast<std::int32_t>(blockDim.x)) {
    const float value = values[i];
    const Number rank = value == value ? ranked(value, i) : kNoNumber;
    if ((rank < limit || limit == kNoNumber) && rank > best) best = rank;
  }
  return block_greatest(best, partial);
}

/// exp((value - top) / temperature) in units. The difference comes first: whatever the temperature,
/// the greatest weighs one and nothing is NaN.
struct Weigher {
  float top;
  float inverse_temperature;  // may be infinite

  __device__ Number operator()(float value) const {
    const float below = value - top;
    const float weight = below == 0.0F ? 1.0F : expf(below * inverse_temperature);
    return static_cast<Number>(weight * kWeightUnit);
  }
};

/// Draws from one row's scores, which are not NaN and whose greatest is finite. All threads of the
/// block call, and get the same.
class Draw {
 public:
  __device__ Draw(const float* scores, std::int32_t count, float top, float temperature,
                  SampleRoom& room)
      : score_(scores),
        count_(count),
        vocabulary_(count),
        top_(key_of(top)),
        weigh_{top, 1.0F / temperature},
        room_(room) {}

  __device__ std::int32_t choose(const kernels::SampleRow& row) {
    const bool all = row.top_k <= 0 || row.top_k >= vocabulary_;
    if (all && row.top_p >= 1.0F && row.min_p <= 0.0F) return along_ids(row.uniform);
    unsigned low = 0;  // no token below this key is kept
    Number kept = 0;   // the weight of those that are
    if (all) {
      kept = from(0).weight;
    } else {
      const auto wanted = static_cast<Number>(row.top_k);
      low = bisect(0, [wanted](const Tally& tally) { return tally.count >= wanted; });
      const Tally above = from(low + 1);
      kept = above.weight + (wanted - above.count) * weigh_(value_of(low));
    }
    if (row.top_p < 1.0F) {
      auto wanted =
          static_cast<Number>(ceil(static_cast<double>(row.top_p) * static_cast<double>(kept)));
      wanted = wanted < 1 ? 1 : (wanted > kept ? kept : wanted);
      low = bisect(low, [wanted](const Tally& tally) { return tally.weight >= wanted; });
      const Tally above = from(low + 1);
      const Number own = weigh_(value_of(low));
      kept = above.weight + ties_of(wanted - above.weight, own) * own;
    }
    if (row.min_p > 0.0F) cut_below(row.min_p, low, kept);
    const Number reached = part_of(kept, row.uniform) + 1;
    low = bisect(low, [reached](const Tally& tally) { return tally.weight >= reached; });
    return tie(low, ties_of(reached - from(low + 1).weight, weigh_(value_of(low))));
  }

 private:
  struct Tally {
    Number count;
    Number weight;
  };

  /// Keeps of the kept tokens those that weigh `share` of the greatest at least.
  __device__ void cut_below(float share, unsigned& low, Number& kept) {
    const auto least = static_cast<Number>(ceil(static_cast<double>(share) * kWeightUnit));
    if (low < kLeastKey) low = kLeastKey;
    if (weigh_(value_of(low)) >= least) return;
    const unsigned heavy = lightest_of(low, least);
    low = heavy;
    kept = from(low).weight;
  }

  /// The least key from `low` on whose token weighs `least`; the greatest token does.
  __device__ unsigned lightest_of(unsigned low, Number least) const {
    for (unsigned high = top_; low < high;) {
      const unsigned middle = low + (high - low) / 2;
      if (weigh_(value_of(middle)) >= least) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  /// A number in [0, kept).
  __device__ static Number part_of(Number kept, double uniform) {
    const auto part = static_cast<Number>(uniform * static_cast<double>(kept));
    return part < kept ? part : kept - 1;
  }
  /// How many equal tokens of weight `own` it takes to weigh `wanted` > 0.
  __device__ static Number ties_of(Number wanted, Number own) { return (wanted + own - 1) / own; }

  template <class Body>
  __device__ void for_each(std::int32_t begin, std::int32_t end, const Body& body) const {
    for (std::int32_t i = begin + static_cast<std::int32_t>(threadIdx.x); i < end;
         i += static_cast<std::int32_t>(blockDim.x)) {
      body(i);
    }
  }

  /// Of the tokens with this key or a greater one.
  __device__ Tally from(unsigned low) const {
    Tally own = {0, 0};
    for_each(0, count_, [&](std::int32_t i) {
      if (key_of(score_[i]) < low) return;
      own.count += 1;
      own.weight += weigh_(score_[i]);
    });
    return {block_total(own.count, room_.partial), block_total(own.weight, room_.partial)};
  }

  /// The greatest key from which on the tally is what `reached` wants; from `low` on it is.
  template <class Reached>
  __device__ unsigned bisect(unsigned low, const Reached& reached) {
    for (unsigned high = top_; low < high;) {
      const unsigned middle = high - (high - low) / 2;
      const Tally tally = from(middle);
      if (reached(tally)) {
        low = middle;
        if (listed_ == nullptr && tally.count <= kSampleList) list_from(low);
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /// Nothing below `low` will be looked at any more. (In which order they are listed is chance, and
  /// nothing depends on it.)
  __device__ void list_from(unsigned low) {
    __syncthreads();
    if (threadIdx.x == 0) room_.listed = 0;
    __syncthreads();
    for_each(0, count_, [&](std::int32_t i) {
      if (key_of(score_[i]) < low) return;
      const unsigned place = atomicAdd(&room_.listed, 1U);
      room_.score[place] = score_[i];
      room_.id[place] = i;
    });
    __syncthreads();
    score_ = room_.score;
    listed_ = room_.id;
    count_ = static_cast<std::int32_t>(room_.listed);
  }

  /// The id of the number-th (from 1) token with this key, by id.
  __device__ std::int32_t tie(unsigned key, Number number) const {
    std::int32_t begin = 0;
    std::int32_t end = vocabulary_;
    while (end - begin > 1) {
      const std::int32_t middle = begin + (end - begin) / 2;
      Number own = 0;
      if (listed_ == nullptr) {
        for_each(begin, middle, [&](std::int32_t i) { own += key_of(score_[i]) == key ? 1 : 0; });
      } else {
        for_each(0, count_, [&](std::int32_t i) {
          const bool within = listed_[i] >= begin && listed_[i] < middle;
          own += within && key_of(score_[i]) == key ? 1 : 0;
        });
      }
      const Number before = block_total(own, room_.partial);
      if (number <= before) {
        end = middle;
      } else {
        number -= before;
        begin = middle;
      }
    }
    return begin;
  }

  /// Of all tokens, by id.
  __device__ std::int32_t along_ids(double uniform) const {
    Number left = part_of(from(0).weight, uniform);
    std::int32_t begin = 0;
    std::int32_t end = vocabulary_;
    while (end - begin > 1) {
      const std::int32_t middle = begin + (end - begin) / 2;
      Number own = 0;
      for_each(begin, middle, [&](std::int32_t i) { own += weigh_(score_[i]); });
      const Number before = block_total(own, room_.partial);
      if (left < before) {
        end = middle;
      } else {
        left -= before;
        begin = middle;
      }
    }
    return begin;
  }

  const float* score_;
  const std::int32_t* listed_ = nullptr;  // the ids of score_ once it is a list, else null
  std::int32_t count_;                    // of score_
  std::int32_t vocabulary_;
  unsigned top_;
  Weigher weigh_;
  SampleRoom& room_;
};

/// The logarithm of the sum of all exponentials. `best`: the likeliest token.
__device__ inline double log_sum_of(const float* logits, std::int32_t count, Number best,
                                    Number* partial) {
  const Weigher weigh = {value_of(best), 1.0F};
  Number own = 0;
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < count;
       i += static_cast<std::int32_t>(blockDim.x)) {
    own += weigh(logits[i]);
  }
  const auto weight = static_cast<double>(block_total(own, partial));
  return log(weight / static_cast<double>(kWeightUnit)) + static_cast<double>(weigh.top);
}

__device__ inline float logprob_of(float logit, double log_sum) {
  return static_cast<float>(static_cast<double>(logit) - log_sum);
}

__device__ inline bool is_edited(const kernels::SampleRow& row) {
  return row.biases + row.repeated + row.others > 0 || row.first_mask_word >= 0 || row.of_beam;
}

/// to = logits, or with SampleRow::of_beam their log-probabilities, with the row's edits and mask.
__device__ inline void edit(float* to, const float* logits, std::int32_t count, double log_sum,
                            const kernels::SampleRow& row, const kernels::SampleLists& lists) {
  const auto first = static_cast<std::int32_t>(threadIdx.x);
  const auto step = static_cast<std::int32_t>(blockDim.x);
  for (std::int32_t i = first; i < count; i += step) {
    to[i] = row.of_beam ? logprob_of(logits[i], log_sum) : logits[i];
  }
  __syncthreads();
  const kernels::TokenEdit* edits = lists.edits + row.first_edit;
  for (std::int32_t i = first; i < row.biases; i += step) to[edits[i].token] += edits[i].value;
  __syncthreads();
  edits += row.biases;
  for (std::int32_t i = first; i < row.repeated + row.others; i += step) {
    float& score = to[edits[i].token];
    if (i < row.repeated) {
      score = score > 0.0F ? score / row.repetition_penalty : score * row.repetition_penalty;
    }
    score -= edits[i].value;
  }
  __syncthreads();
  if (row.first_mask_word < 0) return;
  const std::uint32_t* const mask = lists.masks + row.first_mask_word;
  for (std::int32_t i = first; i < count; i += step) {
    if ((mask[i / 32] >> (i % 32) & 1U) == 0) to[i] = value_of(kLeastKey);
  }
  __syncthreads();
}

/// Log-probabilities of result->token and of the row.logprobs likeliest, of which `best` is the
/// first.
__device__ inline void add_logprobs(const float* logits, std::int32_t count, Number best,
                                    double log_sum, std::int32_t token, std::int32_t logprobs,
                                    Number* partial, kernels::SampledRow* result) {
  const std::int32_t most =
      logprobs < kernels::kMostCandidates ? logprobs : kernels::kMostCandidates;
  const std::int32_t wanted = most < count ? most : count;
  for (std::int32_t i = 0; i < wanted; ++i) {
    if (threadIdx.x == 0) {
      result->top_token[i] = id_of(best);
      result->top_logprob[i] = logprob_of(logits[id_of(best)], log_sum);
    }
    if (i + 1 < wanted) best = likeliest(logits, count, best, partial);
  }
  if (threadIdx.x != 0) return;
  result->logprob = logprob_of(logits[token], log_sum);
  result->top_count = wanted > 0 ? wanted : 0;
}

/// One block per row of logits [rows, count]. `scratch`: [rows, count], for rows with edits.
static __global__ void sample_kernel(kernels::SampledRow* sampled, const float* logits,
                                     std::int32_t count, const kernels::SampleRow* rows,
                                     kernels::SampleLists lists, float* scratch) {
  __shared__ SampleRoom room;
  const kernels::SampleRow row = rows[blockIdx.x];
  const float* const own = logits + std::int64_t{blockIdx.x} * count;
  kernels::SampledRow* const result = sampled + blockIdx.x;
  if (threadIdx.x == 0) {
    result->token = kernels::kNotFinite;
    result->logprob = 0.0F;
    result->top_count = 0;
  }
  const bool scored = row.token >= 0;
  if (scored && row.token >= count) return;
  const bool edited = !scored && is_edited(row);
  const Number model_best = likeliest(own, count, kNoNumber, room.partial);
  if (!is_finite(value_of(model_best))) return;  // NaN of kNoNumber
  const bool wants_logprobs = scored || row.logprobs >= 0;
  const double log_sum =
      wants_logprobs || row.of_beam ? log_sum_of(own, count, model_best, room.partial) : 0.0;
  const float* scores = own;
  Number best = model_best;
  if (edited) {
    float* const to = scratch + std::int64_t{blockIdx.x} * count;
    edit(to, own, count, log_sum, row, lists);
    scores = to;
    best = likeliest(scores, count, kNoNumber, room.partial);
    if (!is_finite(value_of(best))) {
      if (threadIdx.x == 0) result->token = kernels::kAllRuledOut;
      return;
    }
  }
  std::int32_t token = scored ? row.token : id_of(best);
  if (!scored && !row.of_beam && row.temperature > 0.0F) {
    token = Draw(scores, count, value_of(best), row.temperature, room).choose(row);
  }
  if (threadIdx.x == 0) result->token = token;
  if (!wants_logprobs) return;
  if (edited && row.of_beam) {
    add_logprobs(scores, count, best, 0.0, token, row.logprobs, room.partial, result);
  } else {
    add_logprobs(own, count, model_best, log_sum, token, row.logprobs, room.partial, result);
  }
}

}  // namespace sluice::cuda
