// The emulated CUDA runtime: order between streams as CUDA promises it and no more, and refusals of
// what a GPU refuses or leaves undefined.
#include "tests/support/cuda_emulation/launch.h"
// Kernels want the words above.
#include <cuda.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <future>
#include <thread>

#include "kernels/device/error.h"
#include "tests/support/cuda_emulation/device.h"
#include "tests/support/cuda_emulation/stream.h"

namespace sluice {
namespace {

/// Before anybody asks for them: GPU 3 is for tests that break it.
const int kSettings = setenv("SLUICE_EMULATED_GPUS", "4", 1) +
                      setenv("SLUICE_EMULATED_GPU_MIB", "64", 1) +
                      unsetenv("SLUICE_EMULATED_CAPABILITY");
constexpr int kVictim = 3;

#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess)

class CudaEmulation : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(kSettings, 0);
    ASSERT_CUDA(cudaSetDevice(0));
    ASSERT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    ASSERT_CUDA(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking));
    ASSERT_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
  }
  void TearDown() override {
    cudaSetDevice(0);
    cudaEventDestroy(event_);
    cudaStreamDestroy(other_);
    cudaStreamDestroy(stream_);
    cudaGetLastError();
  }

  static int* device_ints(std::size_t count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count * sizeof(int)), cudaSuccess);
    EXPECT_EQ(cudaMemset(memory, 0, count * sizeof(int)), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
    return static_cast<int*>(memory);
  }
  static int value_at(const int* at) {
    int value = 0;
    EXPECT_EQ(cudaMemcpy(&value, at, sizeof(value), cudaMemcpyDefault), cudaSuccess);
    return value;
  }

  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

/// A stream that stands still until told.
class Gate {
 public:
  explicit Gate(cudaStream_t stream) {
    stream->enqueue([opened = opened_.get_future().share()] { opened.wait(); });
  }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> opened_;
};

__global__ void add_one(int* at) { atomicAdd(at, 1); }
__global__ void write_at(int* at, std::int64_t index) { at[index] = 1; }

TEST_F(CudaEmulation, CopiesOfRangesThatAreNotThereAreRefused) {
  int* const block = device_ints(8);
  int host[16] = {};
  EXPECT_EQ(cudaMemcpyAsync(host, block, 9 * sizeof(int), cudaMemcpyDefault, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(block + 7, host, 2 * sizeof(int), cudaMemcpyDefault, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host, block, 8 * sizeof(int), cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(host, 0, sizeof(host), stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(block + 1), cudaErrorInvalidValue);
  ASSERT_CUDA(cudaFree(block));
  EXPECT_EQ(cudaMemcpyAsync(host, block, sizeof(int), cudaMemcpyDefault, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(CudaEmulation, MemoryThatIsFreedBeforeItsCopyBreaksTheDevice) {
  ASSERT_CUDA(cudaSetDevice(kVictim));
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  int* const block = device_ints(8);
  int host = 0;
  Gate gate(stream);
  ASSERT_CUDA(cudaMemcpyAsync(&host, block, sizeof(host), cudaMemcpyDefault, stream));
  ASSERT_CUDA(cudaFree(block));
  gate.open();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);  // and so it stays
  ASSERT_CUDA(cudaSetDevice(0));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(CudaEmulation, DeviceMemoryEndsWhereTheGpusDoes) {
  std::size_t there = 0;
  std::size_t all = 0;
  ASSERT_CUDA(cudaMemGetInfo(&there, &all));
  EXPECT_EQ(all, std::size_t{64} << 20);
  void* block = nullptr;
  void* none = &block;
  ASSERT_CUDA(cudaMalloc(&block, 40 << 20));
  EXPECT_EQ(cudaMalloc(&none, 40 << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(none, nullptr);
  ASSERT_CUDA(cudaSetDevice(1));
  ASSERT_CUDA(cudaMalloc(&none, 40 << 20));  // another GPU
  ASSERT_CUDA(cudaFree(none));
  ASSERT_CUDA(cudaFree(block));
  ASSERT_CUDA(cudaSetDevice(0));
  std::size_t after = 0;
  ASSERT_CUDA(cudaMemGetInfo(&after, &all));
  EXPECT_EQ(after, there);
}

TEST_F(CudaEmulation, NobodyTouchesWhatIsNotTheirs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  int* const block = device_ints(64);  // of 256 bytes: right up to the page's end
  const auto run = [&](int* at, std::int64_t index) {
    cuda::launch("write_at", stream_, 1, 1, 0, write_at, at, index);
    cudaStreamSynchronize(stream_);
  };
  run(block, 63);
  EXPECT_EXIT(run(block, 64), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(
      {
        cudaFree(block);
        run(block, 0);
      },
      testing::KilledBySignal(SIGSEGV), "");
  if (emulated::key_of(0) < 0) GTEST_SKIP() << "no memory protection keys: host code may";
  EXPECT_EXIT(block[0] = 1, testing::KilledBySignal(SIGSEGV), "");
}

TEST_F(CudaEmulation, LaunchesThatAGpuRefusesAreRefused) {
  int* const block = device_ints(1);
  const auto launch = [&](dim3 blocks, unsigned threads, std::size_t shared) {
    cuda::launch("add_one", stream_, blocks, threads, shared, add_one, block);
  };
  launch({2, 3, 4}, 32, 48 << 10);
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_EQ(value_at(block), 2 * 3 * 4 * 32);
  EXPECT_THROW(launch(1, 1025, 0), DeviceError);
  EXPECT_THROW(launch(1, 0, 0), DeviceError);
  EXPECT_THROW(launch(0, 32, 0), DeviceError);
  EXPECT_THROW(launch({1, 65536, 1}, 32, 0), DeviceError);
  EXPECT_THROW(launch(1, 32, (48 << 10) + 1), DeviceError);
  constexpr cudaFuncAttribute kMost = cudaFuncAttributeMaxDynamicSharedMemorySize;
  EXPECT_EQ(cudaFuncSetAttribute(add_one, kMost, (227 << 10) + 1), cudaErrorInvalidValue);
  ASSERT_CUDA(cudaFuncSetAttribute(add_one, kMost, 227 << 10));
  launch(1, 32, 227 << 10);
  ASSERT_CUDA(cudaSetDevice(1));
  EXPECT_THROW(launch(1, 32, 0), DeviceError);  // the stream is of another device
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_EQ(value_at(block), 2 * 3 * 4 * 32 + 32);
}

TEST_F(CudaEmulation, StreamsWaitForEventsAndForNothingElse) {
  int* const block = device_ints(2);
  Gate gate(stream_);
  cuda::launch("add_one", stream_, 1, 7, 0, add_one, block);
  ASSERT_CUDA(cudaEventRecord(event_, stream_));
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  cuda::launch("add_one", other_, 1, 1, 0, add_one, block + 1);
  ASSERT_CUDA(cudaStreamSynchronize(other_));  // did not wait for stream_
  ASSERT_CUDA(cudaStreamWaitEvent(other_, event_, 0));
  ASSERT_CUDA(cudaMemcpyAsync(block + 1, block, sizeof(int), cudaMemcpyDefault, other_));
  EXPECT_EQ(cudaStreamQuery(other_), cudaErrorNotReady);
  gate.open();
  ASSERT_CUDA(cudaStreamSynchronize(other_));
  EXPECT_EQ(cudaEventQuery(event_), cudaSuccess);
  EXPECT_EQ(value_at(block + 1), 7);
}

TEST_F(CudaEmulation, EventsOfOtherDevicesAreRefused) {
  cudaEvent_t timed = nullptr;
  ASSERT_CUDA(cudaEventCreate(&timed));
  ASSERT_CUDA(cudaEventRecord(timed, stream_));
  ASSERT_CUDA(cudaEventRecord(event_, stream_));
  ASSERT_CUDA(cudaEventSynchronize(event_));
  float ms = 0;
  EXPECT_EQ(cudaEventElapsedTime(&ms, timed, event_), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventElapsedTime(&ms, timed, timed), cudaSuccess);
  ASSERT_CUDA(cudaSetDevice(1));
  EXPECT_EQ(cudaEventRecord(timed, nullptr), cudaErrorInvalidResourceHandle);
  ASSERT_CUDA(cudaEventDestroy(timed));
  EXPECT_EQ(cudaEventRecord(timed, stream_), cudaErrorInvalidResourceHandle);
}

TEST_F(CudaEmulation, StreamsWaitForAWordOfPinnedMemory) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  ASSERT_CUDA(cudaGetDriverEntryPointByVersion("cuStreamWaitValue64", &function, 12000,
                                               cudaEnableDefault, &found));
  const auto wait =
      reinterpret_cast<CUresult (*)(CUstream, CUdeviceptr, cuuint64_t, unsigned)>(function);
  void* memory = nullptr;
  ASSERT_CUDA(cudaHostAlloc(&memory, sizeof(std::uint64_t), cudaHostAllocMapped));
  auto* const word = static_cast<std::uint64_t*>(memory);
  *word = 1;
  std::uint64_t plain = 0;
  EXPECT_EQ(wait(stream_, reinterpret_cast<CUdeviceptr>(&plain), 2, CU_STREAM_WAIT_VALUE_GEQ),
            CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(wait(stream_, reinterpret_cast<CUdeviceptr>(word), 2, CU_STREAM_WAIT_VALUE_GEQ),
            CUDA_SUCCESS);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  std::atomic_ref<std::uint64_t>(*word).store(3);
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  ASSERT_CUDA(cudaFreeHost(memory));
}

TEST_F(CudaEmulation, ACaptureRunsWheneverItIsLaunched) {
  int* const block = device_ints(1);
  ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  cuda::launch("add_one", stream_, 1, 5, 0, add_one, block);
  cuda::launch("add_one", stream_, 1, 2, 0, add_one, block);
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamEndCapture(stream_, &graph));
  EXPECT_EQ(value_at(block), 0);
  cudaGraphExec_t exec = nullptr;
  ASSERT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  ASSERT_CUDA(cudaGraphDestroy(graph));
  for (int i = 0; i < 3; ++i) ASSERT_CUDA(cudaGraphLaunch(exec, stream_));
  ASSERT_CUDA(cudaGraphExecDestroy(exec));
  ASSERT_CUDA(cudaStreamSynchronize(stream_));
  EXPECT_EQ(value_at(block), 21);
}

TEST_F(CudaEmulation, WhatACaptureForbidsEndsIt) {
  const auto capture = [&](cudaStreamCaptureMode mode, const std::function<void()>& meanwhile) {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, mode), cudaSuccess);
    meanwhile();
    const cudaError_t status = cudaStreamEndCapture(stream_, &graph);
    EXPECT_EQ(status == cudaSuccess, graph != nullptr);
    cudaGraphDestroy(graph);
    return status;
  };
  constexpr auto kInvalid = cudaErrorStreamCaptureInvalidated;
  constexpr auto kUnsupported = cudaErrorStreamCaptureUnsupported;
  const auto local = cudaStreamCaptureModeThreadLocal;
  EXPECT_EQ(capture(local, [&] { EXPECT_EQ(cudaStreamSynchronize(stream_), kUnsupported); }),
            kInvalid);
  EXPECT_EQ(capture(local, [&] { EXPECT_EQ(cudaEventQuery(event_), kUnsupported); }), kInvalid);
  void* memory = nullptr;
  EXPECT_EQ(capture(local, [&] { EXPECT_EQ(cudaMalloc(&memory, 8), kUnsupported); }), kInvalid);
  // Other threads may, unless the capture is global.
  const auto query = [&] { EXPECT_EQ(cudaEventQuery(event_), cudaSuccess); };
  EXPECT_EQ(capture(local, [&] { std::thread(query).join(); }), cudaSuccess);
  const auto forbidden = [&] { EXPECT_EQ(cudaEventQuery(event_), kUnsupported); };
  EXPECT_EQ(capture(cudaStreamCaptureModeGlobal, [&] { std::thread(forbidden).join(); }), kInvalid);
  ASSERT_CUDA(cudaEventRecord(event_, other_));
  EXPECT_EQ(capture(local,
                    [&] {
                      EXPECT_EQ(cudaStreamWaitEvent(stream_, event_, 0),
                                cudaErrorStreamCaptureIsolation);
                    }),
            kInvalid);
}

TEST_F(CudaEmulation, AKernelThatFailsBreaksItsDevice) {
  ASSERT_CUDA(cudaSetDevice(2));
  cudaStream_t stream = nullptr;
  ASSERT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  constexpr auto kStuck = +[](int lanes) { __syncwarp(threadIdx.x == 0 ? 1U : 0xFFU << lanes); };
  cuda::launch("stuck", stream, 1, 32, 0, kStuck, 1);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_THROW(cuda::launch("add_one", stream, 1, 1, 0, add_one, static_cast<int*>(nullptr)),
               DeviceError);
}

}  // namespace
}  // namespace sluice
