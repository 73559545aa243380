// The emulated block: what kernels on the host may rely on, and what it refuses.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "tests/support/cuda_emulation/orders.h"

namespace sluice {
namespace {

using support::launch_on_host;

std::vector<std::byte> bytes_of(const std::vector<int>& values) {
  const auto* const first = reinterpret_cast<const std::byte*>(values.data());
  return {first, first + values.size() * sizeof(int)};
}

/// What a launch that is refused says.
std::string refusal(unsigned threads, const std::function<void()>& kernel) {
  try {
    launch_on_host({}, threads, 0, kernel);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "nothing";
}

TEST(CudaBlock, BarriersHoldTheWholeBlock) {
  constexpr unsigned kThreads = 200;  // not a whole number of warps
  EXPECT_TRUE(support::same_in_every_order([] {
    std::vector<int> out(3 * kThreads);
    launch_on_host({3, 1, 1}, kThreads, kThreads * sizeof(int), [&] {
      int* const line = reinterpret_cast<int*>(support::dynamic_shared_memory());
      const unsigned i = threadIdx.x;
      line[i] = static_cast<int>(i + blockIdx.x);
      __syncthreads();
      const int next = line[(i + 1) % kThreads];
      __syncthreads();
      line[i] = next;
      __syncthreads();
      out[blockIdx.x * kThreads + i] = line[(i + 1) % kThreads];
    });
    EXPECT_EQ(out[kThreads], 3);
    EXPECT_EQ(out[3 * kThreads - 1], 3);
    return bytes_of(out);
  }));
}

TEST(CudaBlock, AMissingBarrierShowsInSomeOrder) {
  EXPECT_FALSE(support::same_in_every_order([] {
    std::vector<int> out(64);
    launch_on_host({}, 64, 64 * sizeof(int), [&] {
      int* const line = reinterpret_cast<int*>(support::dynamic_shared_memory());
      line[threadIdx.x] = static_cast<int>(threadIdx.x);
      out[threadIdx.x] = line[(threadIdx.x + 1) % 64];
    });
    return bytes_of(out);
  }));
}

TEST(CudaBlock, ShufflesMoveValuesOfAnyType) {
  std::vector<double> sums(64);
  std::vector<int> others(64);
  std::vector<long long> below(64);
  launch_on_host({}, 64, 0, [&] {
    const unsigned i = threadIdx.x;
    double value = i;
    for (int distance = 16; distance > 0; distance /= 2) {
      value += __shfl_xor_sync(0xFFFFFFFFU, value, distance);
    }
    sums[i] = value;
    others[i] = __shfl_sync(0xFFFFFFFFU, static_cast<int>(i), 3, 8);
    below[i] = __shfl_down_sync(0xFFFFFFFFU, static_cast<long long>(i) << 40, 1);
  });
  EXPECT_EQ(sums[5], 31.0 * 16);
  EXPECT_EQ(sums[40], 31.0 * 16 + 32 * 32);
  EXPECT_EQ(others[13], 8 + 3);
  EXPECT_EQ(others[45], 40 + 3);
  EXPECT_EQ(below[7], 8LL << 40);
  EXPECT_EQ(below[31], 31LL << 40);  // the last lane keeps its own
}

TEST(CudaBlock, PartsOfAWarpMeetAlone) {
  std::vector<unsigned> seen(32);
  launch_on_host({}, 32, 0, [&] {
    const unsigned lane = threadIdx.x;
    if (lane < 8) {
      for (unsigned round = 0; round < lane % 2 + 1; ++round) {
        const unsigned pairs = lane % 2 == 0 ? 0x55U : 0xAAU;
        seen[lane] = __ballot_sync(pairs, lane > 3 ? 1 : 0);
      }
    } else {
      seen[lane] = __ballot_sync(0xFFFFFF00U, 1);
    }
  });
  EXPECT_EQ(seen[0], 0x50U);
  EXPECT_EQ(seen[7], 0xA0U);
  EXPECT_EQ(seen[31], 0xFFFFFF00U);
}

TEST(CudaBlock, ThreadsThatEndedCountAsThere) {
  std::vector<int> out(64, -1);
  launch_on_host({}, 64, 0, [&] {
    if (threadIdx.x % 32 >= 20) return;
    __syncthreads();
    const unsigned there = __ballot_sync(0xFFFFFFFFU, 1);
    out[threadIdx.x] = __popc(there);
  });
  EXPECT_EQ(out[0], 20);
  EXPECT_EQ(out[51], 20);
  EXPECT_EQ(out[52], -1);
}

TEST(CudaBlock, WhatCudaLeavesUndefinedIsRefused) {
  EXPECT_THAT(refusal(32,
                      [] {
                        if (threadIdx.x < 16) return;
                        __shfl_xor_sync(0xFFFFFFFFU, 1, 16);
                      }),
              testing::HasSubstr("took no part"));
  EXPECT_THAT(refusal(32,
                      [] {
                        if (threadIdx.x < 16) {
                          __shfl_xor_sync(0xFFFFFFFFU, 1, 1);
                        } else {
                          __ballot_sync(0xFFFFFFFFU, 1);
                        }
                      }),
              testing::HasSubstr("lanes of one warp meet in"));
  EXPECT_THAT(refusal(32, [] { __syncwarp(0xFFFFU); }), testing::HasSubstr("leaves out the lane"));
  EXPECT_THAT(refusal(64,
                      [] {
                        if (threadIdx.x == 0) {
                          __syncthreads();
                        } else {
                          __syncwarp();
                        }
                      }),
              testing::HasSubstr("wait for each other for ever"));
  EXPECT_THAT(refusal(32, [] { support::dynamic_shared_memory()[0] = std::byte{1}; }),
              testing::HasSubstr("past its dynamic shared memory"));
  EXPECT_THAT(refusal(1025, [] {}), testing::HasSubstr("1 to 1024 threads"));
}

TEST(CudaBlock, RunsOnAfterARefusal) {
  EXPECT_NE(refusal(96, [] { threadIdx.x == 0 ? __syncthreads() : __syncwarp(); }), "nothing");
  std::vector<int> out(96);
  launch_on_host({}, 96, 0, [&] {
    __syncthreads();
    atomicAdd(&out[threadIdx.x % 3], 1);
    atomicMax(&out[3], static_cast<int>(threadIdx.x));
  });
  EXPECT_EQ(out[0], 32);
  EXPECT_EQ(out[2], 32);
  EXPECT_EQ(out[3], 95);
}

}  // namespace
}  // namespace sluice
