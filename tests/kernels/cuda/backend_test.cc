// The CUDA backend and its graphs, on emulated GPUs.
#include "kernels/cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/load_kernels.h"
#include "kernels/device/error.h"
#include "tests/support/cuda_emulation/stream.h"

namespace sluice::cuda {
namespace {

const int kSettings = setenv("SLUICE_EMULATED_GPUS", "2", 1);  // before anybody asks for them
constexpr std::int64_t kRows = 5;
constexpr std::int64_t kWidth = 64;

/// Rows of a table that kernels read by ids: what changes between replays lies behind pointers.
class CudaGraphs : public testing::Test {
 protected:
  CudaGraphs() {
    std::vector<float> values(kTable * kWidth);
    std::iota(values.begin(), values.end(), 0.0F);
    table_ = place(values.data(), values.size() * sizeof(float));
    ids_ = backend_->allocate_device(kRows * sizeof(std::int32_t));
    for (Memory& out : out_) out = backend_->allocate_device(kRows * kWidth * sizeof(float));
  }

  static std::unique_ptr<CudaBackend> make_backend() {
    if (cudaSetDevice(0) != cudaSuccess) throw std::runtime_error("no emulated GPU");
    BackendInfo info;
    info.kind = "cuda";
    return std::make_unique<CudaBackend>(info, 0, 2, nullptr);
  }

  Memory place(const void* bytes, std::size_t count) {
    Memory memory = backend_->allocate_device(count);
    backend_->copy(Lane::host_to_device, memory.data(), bytes, count);
    backend_->synchronize(backend_->record(Lane::host_to_device));
    return memory;
  }

  void use_ids(std::int32_t first) {
    std::vector<std::int32_t> ids(kRows);
    std::iota(ids.begin(), ids.end(), first);
    backend_->copy(Lane::compute, ids_.data(), ids.data(), ids.size() * sizeof(std::int32_t));
    backend_->synchronize(backend_->record(Lane::compute));
  }

  TensorView out(std::size_t i, std::int64_t rows = kRows) const {
    return {out_[i].data(), DType::f32, rows, kWidth};
  }
  SplitMatrix table() const { return {{table_.data(), DType::f32, kTable, kWidth}, {}}; }
  const std::int32_t* ids() const { return reinterpret_cast<const std::int32_t*>(ids_.data()); }

  /// `calls` gathers, one into each buffer in turn.
  void put(std::size_t calls) {
    for (std::size_t i = 0; i < calls; ++i) ops_.gather(out(i % kOuts), table(), ids());
  }
  void finish() { backend_->synchronize(backend_->record(Lane::compute)); }
  /// The shortest that is worth a graph. Another number is another sequence.
  void sequence(std::int64_t number) {
    put(CallGraphs::kFewestCalls - 1);
    ops_.layer_norm(out(5), out(4), {}, {}, static_cast<float>(number + 1));
    finish();
  }

  void check_rounds(std::uint64_t length) {
    constexpr std::uint64_t kRounds = 5;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      for (std::uint64_t i = 0; i < length; ++i) sequence(static_cast<std::int64_t>(i));
    }
    const CallGraphs::Counts counts = backend_->graph_counts();
    const std::uint64_t kept = std::min<std::uint64_t>(length, CallGraphs::kMostKept);
    EXPECT_EQ(counts.captured, kept) << "each once";
    EXPECT_EQ(counts.replayed, kept * (kRounds - 1));
    EXPECT_EQ(counts.launched, kRounds * length - kept * (kRounds - 1));
  }

  float first_of(std::size_t i) {
    float value = -1;
    backend_->copy(Lane::device_to_host, &value, out_[i].data(), sizeof(value));
    backend_->synchronize(backend_->record(Lane::device_to_host));
    return value;
  }

  static constexpr std::int64_t kTable = 400;
  static constexpr std::size_t kOuts = 6;
  std::unique_ptr<CudaBackend> backend_ = make_backend();
  CudaOps ops_{*backend_};
  Memory table_;
  Memory ids_;
  Memory out_[kOuts];
};

TEST_F(CudaGraphs, WhatComesAgainIsReplayedAndReadsWhatIsThereNow) {
  for (std::int32_t round = 0; round < 5; ++round) {
    use_ids(round);
    put(kOuts);
    finish();
    for (std::size_t i = 0; i < kOuts; ++i) {
      ASSERT_EQ(first_of(i), static_cast<float>(round * kWidth)) << "round " << round;
    }
  }
  const CallGraphs::Counts counts = backend_->graph_counts();
  EXPECT_EQ(counts.launched, 1U) << "the first time";
  EXPECT_EQ(counts.captured, 1U) << "the second time";
  EXPECT_EQ(counts.replayed, 4U);
}

TEST_F(CudaGraphs, AnyOtherArgumentIsAnotherSequence) {
  put(kOuts);
  finish();
  put(kOuts);
  finish();
  ASSERT_EQ(backend_->graph_counts().replayed, 1U);
  for (std::size_t i = 0; i < kOuts; ++i) ops_.gather_add(out(i), table(), ids());
  finish();
  for (std::size_t i = 0; i < kOuts; ++i) ops_.gather(out(i, kRows - 1), table(), ids());
  finish();
  put(kOuts - 1);
  finish();
  EXPECT_EQ(backend_->graph_counts().replayed, 1U);
  EXPECT_EQ(backend_->graph_counts().launched, 4U);
}

TEST_F(CudaGraphs, FewCallsAndManyRowsAreLaunched) {
  for (int round = 0; round < 3; ++round) {
    put(CallGraphs::kFewestCalls - 1);
    finish();
  }
  const Memory large = backend_->allocate_device((CallGraphs::kMostRows + 1) * kWidth * 4);
  const TensorView rows{large.data(), DType::f32, CallGraphs::kMostRows + 1, kWidth};
  for (int round = 0; round < 3; ++round) {
    put(kOuts);
    ops_.layer_norm(rows, rows, {}, {}, 1e-5F);
    finish();
  }
  EXPECT_EQ(backend_->graph_counts().captured, 0U);
  EXPECT_EQ(backend_->graph_counts().launched, 6U);
}

// A round is one token's sequences. Where the one unused for longest made room, a round one too
// long would find none of its graphs, ever. 66: before, between and after 32 layers whose cache is
// attended by the host.
TEST_F(CudaGraphs, ARoundOfEveryLayersSequencesIsReplayed) { check_rounds(66); }

TEST_F(CudaGraphs, OfARoundOneTooLongAllButOneAreReplayed) {
  check_rounds(CallGraphs::kMostKept + 1);
}

TEST_F(CudaGraphs, OfAMuchLongerRoundAPartIsReplayed) {
  check_rounds(CallGraphs::kMostKept * 3 / 2);
}

TEST_F(CudaGraphs, WhatHasNotComeForLongMakesRoom) {
  for (int i = 0; i < 3; ++i) sequence(0);
  const auto most = static_cast<std::int64_t>(CallGraphs::kMostKept);
  for (std::int64_t i = 1; i < 2 * most; ++i) sequence(i);
  sequence(0);
  EXPECT_EQ(backend_->graph_counts().replayed, 3U) << "still there";
  for (std::int64_t i = 2 * most; i < 16 * most; ++i) sequence(i);
  sequence(0);
  EXPECT_EQ(backend_->graph_counts().replayed, 3U) << "it made room";
}

TEST_F(CudaGraphs, AStepTooLongIsPutInPieces) {
  for (int round = 0; round < 3; ++round) {
    put(CallGraphs::kMostCalls + 10);
    finish();
  }
  EXPECT_EQ(backend_->graph_counts().launched, 2U);
  EXPECT_EQ(backend_->graph_counts().replayed, 4U);
}

/// Nothing that must come after an operation may come before it only because that is still
/// collected.
TEST_F(CudaGraphs, CopiesAndEventsComeAfterWhatWasCollected) {
  use_ids(7);
  put(kOuts);
  float value = -1;
  backend_->copy(Lane::compute, &value, out_[0].data(), sizeof(value));
  finish();
  EXPECT_EQ(value, 7.0F * kWidth);

  use_ids(9);
  put(kOuts);
  backend_->wait(Lane::device_to_host, backend_->record(Lane::compute));
  backend_->copy(Lane::device_to_host, &value, out_[kOuts - 1].data(), sizeof(value));
  backend_->synchronize(backend_->record(Lane::device_to_host));
  EXPECT_EQ(value, 9.0F * kWidth);
}

/// An event is not done before what was collected before it has been computed.
TEST_F(CudaGraphs, AnEventIsDoneWhenTheOperationsAre) {
  std::promise<void> gate;
  static_cast<cudaStream_t>(backend_->stream(Lane::compute))
      ->enqueue([opened = gate.get_future().share()] { opened.wait(); });
  put(kOuts);
  const Event computed = backend_->record(Lane::compute);
  EXPECT_FALSE(backend_->done(computed));
  gate.set_value();
  backend_->synchronize(computed);
  EXPECT_TRUE(backend_->done(computed));
}

TEST_F(CudaGraphs, AWaitStandsBetweenWhatCameBeforeAndAfter) {
  std::promise<void> gate;
  static_cast<cudaStream_t>(backend_->stream(Lane::host_to_device))
      ->enqueue([opened = gate.get_future().share()] { opened.wait(); });
  put(2);
  const Event before = backend_->record(Lane::compute);
  backend_->wait(Lane::compute, backend_->record(Lane::host_to_device));
  put(2);
  const Event after = backend_->record(Lane::compute);
  backend_->synchronize(before);
  EXPECT_FALSE(backend_->done(after));
  gate.set_value();
  backend_->synchronize(after);
}

TEST_F(CudaGraphs, PinnedMemoryIsZeroAndGoesBack) {
  for (int round = 0; round < 3; ++round) {
    const Memory memory = backend_->allocate_host((std::size_t{130} << 20) + 17, true);
    ASSERT_EQ(memory.bytes(), (std::size_t{130} << 20) + 17);
    EXPECT_EQ(memory.data()[0], std::byte{0});
    EXPECT_EQ(memory.data()[memory.bytes() - 1], std::byte{0});
    memory.data()[memory.bytes() - 1] = std::byte{1};
  }
}

TEST(CudaGraphsOff, EveryCallIsLaunchedByItself) {
  ASSERT_EQ(setenv("SLUICE_CUDA_GRAPHS", "0", 1), 0);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  CudaBackend backend({}, 0, 1, nullptr);
  unsetenv("SLUICE_CUDA_GRAPHS");
  CudaOps ops(backend);
  const Memory memory = backend.allocate_device(1024);
  const TensorView row{memory.data(), DType::f32, 1, kWidth};
  for (int i = 0; i < 10; ++i) ops.layer_norm(row, row, {}, {}, 1e-5F);
  backend.synchronize(backend.record(Lane::compute));
  EXPECT_EQ(backend.graph_counts().launched, 10U);
  EXPECT_EQ(backend.graph_counts().replayed, 0U);
}

/// More is put than a stream's queue may hold while it waits for the host lane, which waits for a
/// copy of another stream: the host lane must need nothing that whoever puts work may hold.
TEST_F(CudaGraphs, TheHostLaneWaitsForStreamsWithoutCallingCuda) {
  std::promise<void> gate;
  static_cast<cudaStream_t>(backend_->stream(Lane::device_to_host))
      ->enqueue([opened = gate.get_future().share()] { opened.wait(); });
  float value = -1;
  use_ids(3);
  put(kOuts);
  backend_->wait(Lane::device_to_host, backend_->record(Lane::compute));
  backend_->copy(Lane::device_to_host, &value, out_[0].data(), sizeof(value));
  backend_->wait(Lane::host_compute, backend_->record(Lane::device_to_host));
  backend_->call(
      Lane::host_compute, [](void* seen) { *static_cast<float*>(seen) += 1.0F; }, &value);
  const Event added = backend_->record(Lane::host_compute);
  backend_->wait(Lane::compute, added);
  for (int round = 0; round < 4; ++round) put(CallGraphs::kMostCalls);
  const Event computed = backend_->record(Lane::compute);
  EXPECT_FALSE(backend_->done(added));
  EXPECT_FALSE(backend_->done(computed));
  gate.set_value();
  backend_->synchronize(added);
  EXPECT_EQ(value, 3.0F * kWidth + 1.0F);
  backend_->synchronize(computed);
}

TEST(CudaKernels, AreLoadedOfEveryFile) { EXPECT_EQ(cuda::load_kernels(), 7); }

/// A copy that the compute lane waits for is told as what it stood still for, and as not hidden.
TEST(CudaStalls, WhatTheComputeLaneWaitedForIsTold) {
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  Trace trace(0);
  BackendInfo info;
  info.device_bytes = 1;
  CudaBackend backend(info, 0, 1, &trace);
  CudaOps ops(backend);
  constexpr std::size_t kBytes = std::size_t{16} << 20;
  const Memory device = backend.allocate_device(kBytes);
  const Memory host = backend.allocate_host(kBytes, true);
  const TensorView row{device.data(), DType::f32, 1, kWidth};
  ops.layer_norm(row, row, {}, {}, 1e-5F);
  backend.synchronize(backend.record(Lane::compute));

  std::promise<void> gate;
  static_cast<cudaStream_t>(backend.stream(Lane::host_to_device))
      ->enqueue([opened = gate.get_future().share()] { opened.wait(); });
  backend.copy(Lane::host_to_device, device.data(), host.data(), kBytes);
  compute_waits(backend, backend.record(Lane::host_to_device), Activity::stall_weights);
  ops.layer_norm(row, row, {}, {}, 1e-5F);
  const Event computed = backend.record(Lane::compute);
  EXPECT_EQ(trace.busy_seconds(Activity::stall_weights), 0.0) << "not known yet";
  gate.set_value();
  backend.synchronize(computed);
  backend.call(
      Lane::compute, [](void*) {}, nullptr);
  backend.synchronize(backend.record(Lane::compute));

  EXPECT_TRUE(trace.measures_stalls());
  const double copied = trace.busy_seconds(Activity::host_to_device);
  EXPECT_GT(copied, 0.0);
  EXPECT_GE(trace.busy_seconds(Activity::stall_weights), copied);
  // The ends of the two are rounded to nanoseconds, each by itself.
  EXPECT_NEAR(trace.exposed_seconds(Activity::host_to_device), copied, 1e-8);
}

TEST(CudaDriver, CodesAreToldByName) {
  const auto told = [](CUresult status) {
    try {
      check_driver(status, "cuStreamWaitValue64");
    } catch (const DeviceError& error) {
      return std::string(error.what());
    }
    return std::string("(none)");
  };
  EXPECT_EQ(told(CUDA_SUCCESS), "(none)");
  EXPECT_EQ(told(CUDA_ERROR_NOT_SUPPORTED), "cuStreamWaitValue64: CUDA_ERROR_NOT_SUPPORTED");
  EXPECT_EQ(told(CUDA_ERROR_UNKNOWN), "cuStreamWaitValue64: driver error 999");
}

TEST(CudaDriver, ADeviceHasAUuidOfItsOwn) {
  EXPECT_EQ(device_uuid(0), "e0e1e2e3-e4e5-e6e7-e8e9-eaebecedee00");
  EXPECT_NE(device_uuid(1), device_uuid(0));
  EXPECT_THROW(device_uuid(2), DeviceError);
}

TEST(CudaDevice, WhoTakesAStreamTakesItsDevice) {
  ASSERT_EQ(kSettings, 0);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  CudaBackend backend({}, 1, 1, nullptr);
  for (const Lane lane : {Lane::send, Lane::receive}) {
    std::async(std::launch::async, [&] {
      int device = -1;
      EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
      EXPECT_EQ(device, 0);
      EXPECT_NE(backend.stream(lane), nullptr);
      EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
      EXPECT_EQ(device, 1);
    }).get();
  }
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

}  // namespace
}  // namespace sluice::cuda
