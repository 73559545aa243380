#include "kernels/device/cpu_backend.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"

namespace {
std::atomic<std::int64_t> allocations{0};  // by any thread of this program
}  // namespace

void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace sluice {
namespace {

constexpr Lane kLanes[] = {Lane::compute, Lane::host_to_device, Lane::device_to_host,
                           Lane::host_compute};

/// A lane stands still from close() until open(), with no clock involved.
class Gate {
 public:
  void close(Backend& backend, Lane lane) {
    backend.call(
        lane, [](void* gate) { static_cast<Gate*>(gate)->open_.acquire(); }, this);
  }
  void open() { open_.release(); }

 private:
  std::binary_semaphore open_{0};
};

void count(void* counter) { static_cast<std::atomic<int>*>(counter)->fetch_add(1); }

TEST(CpuBackend, ALaneDoesItsWorkInOrder) {
  CpuBackend backend({}, nullptr);
  for (const Lane lane : kLanes) {
    std::vector<int> seen;
    seen.reserve(5000);
    std::vector<int>* target = &seen;
    for (int i = 0; i < 5000; ++i) backend.put(lane, [target, i] { target->push_back(i); });
    backend.synchronize(backend.record(lane));
    ASSERT_EQ(seen.size(), 5000U);
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(seen[static_cast<std::size_t>(i)], i);
  }
}

TEST(CpuBackend, WorkPutByManyThreadsIsAllDone) {
  CpuBackend backend({}, nullptr);
  std::atomic<int> counter{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 3000; ++j) backend.call(Lane::compute, count, &counter);
      backend.synchronize(backend.record(Lane::compute));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.load(), 12000);
}

TEST(CpuBackend, AnEventIsDoneOnlyWhenItsLaneCameThereAndThenForEver) {
  CpuBackend backend({}, nullptr);
  EXPECT_TRUE(backend.done(Event{}));
  Gate gate;
  gate.close(backend, Lane::compute);
  const Event event = backend.record(Lane::compute);
  EXPECT_FALSE(backend.done(event));
  gate.open();
  backend.synchronize(event);
  EXPECT_TRUE(backend.done(event));
  std::atomic<int> counter{0};
  for (int i = 0; i < 3000; ++i) {
    backend.call(Lane::compute, count, &counter);
    ASSERT_TRUE(backend.done(event));
  }
  backend.synchronize(event);
}

TEST(CpuBackend, ALaneWaitsForAnEventOfAnother) {
  CpuBackend backend({}, nullptr);
  Gate gate;
  std::atomic<int> counter{0};
  gate.close(backend, Lane::host_to_device);
  backend.wait(Lane::compute, backend.record(Lane::host_to_device));
  backend.call(Lane::compute, count, &counter);
  const Event after = backend.record(Lane::compute);
  // The waiting lane stands; the others go on.
  std::atomic<int> others{0};
  backend.call(Lane::device_to_host, count, &others);
  backend.synchronize(backend.record(Lane::device_to_host));
  EXPECT_EQ(others.load(), 1);
  EXPECT_FALSE(backend.done(after));
  EXPECT_EQ(counter.load(), 0);
  gate.open();
  backend.synchronize(after);
  EXPECT_EQ(counter.load(), 1);
}

TEST(CpuBackend, WaitingForItsOwnLaneOrThePastIsNothing) {
  CpuBackend backend({}, nullptr);
  Gate gate;
  gate.close(backend, Lane::compute);
  backend.wait(Lane::compute, backend.record(Lane::compute));
  backend.wait(Lane::host_to_device, Event{});
  backend.synchronize(backend.record(Lane::host_to_device));
  gate.open();
  backend.synchronize(backend.record(Lane::compute));
}

TEST(CpuBackend, LanesHandATokenAroundInOrder) {
  CpuBackend backend({}, nullptr);
  int token = 0;  // written by four threads, ordered by events alone
  int* target = &token;
  Event last;
  for (int i = 0; i < 4000; ++i) {
    const Lane lane = kLanes[i % kLaneCount];
    backend.wait(lane, last);
    backend.put(lane, [target, i] { *target = *target == i ? i + 1 : -1; });
    last = backend.record(lane);
  }
  backend.synchronize(last);
  EXPECT_EQ(token, 4000);
}

TEST(CpuBackend, AFullQueueMakesItsCallerWaitAndLosesNothing) {
  CpuBackend backend({}, nullptr);
  Gate gate;
  gate.close(backend, Lane::compute);
  std::atomic<int> counter{0};
  std::atomic<int> put{0};
  constexpr int kTasks = 3 * static_cast<int>(LaneQueue::kCapacity);
  std::thread writer([&] {
    for (int i = 0; i < kTasks; ++i) {
      backend.call(Lane::compute, count, &counter);
      put.fetch_add(1);
      put.notify_all();
    }
  });
  // The gate takes one place.
  const int places = static_cast<int>(LaneQueue::kCapacity) - 1;
  for (int seen = put.load(); seen < places; seen = put.load()) put.wait(seen);
  EXPECT_EQ(put.load(), places);
  EXPECT_EQ(counter.load(), 0);
  gate.open();
  writer.join();
  backend.synchronize(backend.record(Lane::compute));
  EXPECT_EQ(counter.load(), kTasks);
}

TEST(CpuBackend, DestructionDoesWhatWasPut) {
  std::atomic<int> counter{0};
  Gate gate;
  {
    CpuBackend backend({}, nullptr);
    gate.close(backend, Lane::device_to_host);
    backend.wait(Lane::compute, backend.record(Lane::device_to_host));
    for (int i = 0; i < 100; ++i) backend.call(Lane::compute, count, &counter);
    gate.open();
  }
  EXPECT_EQ(counter.load(), 100);
}

TEST(CpuBackend, CopiesBytesAndCountsThem) {
  Trace trace(0);
  CpuBackend backend({}, &trace);
  const Memory source = backend.allocate_host(1 << 20, true);
  const Memory target = backend.allocate_device(1 << 20);
  for (std::size_t i = 0; i < source.bytes(); ++i) source.data()[i] = std::byte(i % 251);
  backend.copy(Lane::host_to_device, target.data(), source.data(), source.bytes());
  backend.copy(Lane::host_to_device, nullptr, nullptr, 0);
  backend.synchronize(backend.record(Lane::host_to_device));
  EXPECT_EQ(std::memcmp(source.data(), target.data(), source.bytes()), 0);
  EXPECT_EQ(trace.bytes(Activity::host_to_device), source.bytes());
  EXPECT_GT(trace.busy_seconds(Activity::host_to_device), 0.0);
  EXPECT_EQ(trace.busy_seconds(Activity::compute), 0.0);
  EXPECT_THROW(backend.copy(Lane::host_to_device, nullptr, source.data(), 1), DeviceError);
  EXPECT_THROW(backend.copy(Lane::host_to_device, target.data(), nullptr, 1), DeviceError);
}

TEST(CpuBackend, WaitingIsNotBusyTime) {
  Trace trace(16);
  {
    CpuBackend backend({}, &trace);
    Gate gate;
    gate.close(backend, Lane::host_to_device);
    backend.wait(Lane::compute, backend.record(Lane::host_to_device));
    gate.open();
    backend.synchronize(backend.record(Lane::compute));
  }
  for (const Span& span : trace.spans()) EXPECT_NE(span.activity, Activity::compute);
}

TEST(CpuBackend, FailuresAreKeptFirstCauseFirst) {
  CpuBackend backend({}, nullptr);
  std::atomic<int> counter{0};
  backend.put(Lane::compute, [] { throw std::runtime_error("the first cause"); });
  backend.put(Lane::compute, [] { throw std::runtime_error("a consequence"); });
  backend.call(Lane::compute, count, &counter);
  const Event event = backend.record(Lane::compute);
  for (int again = 0; again < 2; ++again) {
    try {
      backend.synchronize(event);
      FAIL() << "the failure was swallowed";
    } catch (const DeviceError& error) {
      EXPECT_STREQ(error.what(), "lane 'compute': the first cause");
    }
  }
  EXPECT_EQ(counter.load(), 1);
  EXPECT_TRUE(backend.done(event));
}

TEST(CpuBackend, RefusesEventsItNeverRecorded) {
  CpuBackend backend({}, nullptr);
  const Event event = {Lane::host_to_device, 1};
  EXPECT_THROW(backend.wait(Lane::compute, event), DeviceError);
  EXPECT_THROW(backend.synchronize(event), DeviceError);
  EXPECT_FALSE(backend.done(event));
}

TEST(CpuBackend, MemoryIsAlignedZeroedAndGivenBack) {
  CpuBackend backend({}, nullptr);
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4097}, (std::size_t{4} << 20) + 1}) {
    Memory memory = backend.allocate_device(bytes);
    ASSERT_NE(memory.data(), nullptr);
    EXPECT_EQ(memory.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 0U);
    EXPECT_EQ(memory.data()[0], std::byte{0});
    EXPECT_EQ(memory.data()[bytes - 1], std::byte{0});
    memory.data()[bytes - 1] = std::byte{1};
  }
  EXPECT_EQ(backend.allocate_host(0, false).data(), nullptr);
  Memory memory = backend.allocate_host(std::size_t{8} << 20, true);
  std::byte* const begin = memory.data();
  unsigned char resident = 0;
  EXPECT_EQ(mincore(begin, 4096, &resident), 0);
  { const Memory gone = std::move(memory); }
  EXPECT_EQ(mincore(begin, 4096, &resident), -1);
  EXPECT_EQ(errno, ENOMEM);  // no longer mapped
}

TEST(CpuBackend, RefusesMemoryThatIsNotThere) {
  CpuBackend backend({}, nullptr);
  for (const std::size_t bytes : {std::size_t{1} << 50, SIZE_MAX - 100}) {
    try {
      static_cast<void>(backend.allocate_device(bytes));
      FAIL() << bytes << " bytes were granted";
    } catch (const CapacityError& error) {
      const std::string sentence = error.what();
      EXPECT_NE(sentence.find(std::to_string(bytes)), std::string::npos) << sentence;
      EXPECT_NE(sentence.find("device memory"), std::string::npos) << sentence;
    }
  }
}

TEST(CpuBackend, LanesHaveNames) {
  EXPECT_STREQ(name_of(Lane::compute), "compute");
  EXPECT_STREQ(name_of(Lane::host_to_device), "host to device");
  EXPECT_STREQ(name_of(Lane::device_to_host), "device to host");
  EXPECT_STREQ(name_of(Lane::host_compute), "host compute");
}

TEST(CpuEngine, NothingIsAllocatedByPuttingOrDoingWork) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = 2;
  const kernels::Engine engine = kernels::make_engine(options);
  Backend& backend = *engine.backend;
  const Memory memory = backend.allocate_device(8 << 20);
  std::memset(memory.data(), 0, memory.bytes());
  constexpr std::int64_t kWidth = 256;
  const TensorView a = {memory.data(), DType::f32, 40, kWidth};
  const TensorView b = {memory.data() + a.bytes(), DType::f32, 40, kWidth};
  const SplitMatrix w = {{memory.data() + 2 * a.bytes(), DType::f16, kWidth, kWidth}, {}};
  kernels::KvPages cache;
  cache.dtype = DType::f16;
  cache.kv_heads = 4;
  cache.head_dim = 64;
  cache.page_tokens = 64;
  cache.page_stride_bytes = static_cast<std::int64_t>(cache.page_bytes());
  cache.base = memory.data() + (1 << 20);
  const std::int32_t first_row = 0, new_tokens = 40, context = 40, page = 0;
  const kernels::KvBatch batch = {1, 1, &first_row, &new_tokens, &context, &page};
  std::vector<std::int32_t> ids(40, 3);
  const auto step = [&] {
    for (kernels::Ops* ops : {engine.device_ops.get(), engine.host_ops.get()}) {
      ops->gather(a, w, ids.data());
      ops->gather_add(a, w, ids.data());
      ops->layer_norm(a, a, {}, {}, 1e-5F);
      ops->linear(b, a, w, {}, kernels::Activation::gelu, {});
      ops->append_kv(cache, batch, a, b);
      ops->attention(b, a, cache, batch, {0.125F});
      ops->select_rows(b, a, ids.data());
      backend.wait(Lane::host_compute, backend.record(Lane::compute));
    }
    // The lanes share the matrices, so each takes its turn.
    backend.wait(Lane::host_to_device, backend.record(Lane::host_compute));
    backend.copy(Lane::host_to_device, b.data, a.data, a.bytes());
    backend.wait(Lane::compute, backend.record(Lane::host_to_device));
    backend.synchronize(backend.record(Lane::compute));
  };
  step();
  const std::int64_t before = allocations.load();
  for (int i = 0; i < 20; ++i) step();
  EXPECT_EQ(allocations.load() - before, 0);
}

TEST(CpuEngine, SaysWhatItIs) {
  kernels::EngineOptions options;
  options.device = "cpu";
  options.threads = 3;
  const BackendInfo info = kernels::make_engine(options).backend->info();
  EXPECT_EQ(info.kind, "cpu");
  EXPECT_EQ(info.threads, 3);
  EXPECT_EQ(info.compute_dtype, DType::f32);
  EXPECT_EQ(info.description.find("cpu ("), 0U);
  EXPECT_NE(info.description.find(", 3 threads)"), std::string::npos) << info.description;
  options.threads = 0;
  options.ranks_on_host = 1 << 20;
  EXPECT_EQ(kernels::make_engine(options).backend->info().threads, 1);
  options.threads = -1;
  EXPECT_THROW(kernels::make_engine(options), ConfigError);
}

}  // namespace
}  // namespace sluice
