#include "kernels/cuda/cuda_backend.h"

#include <cuda.h>
#include <fmt/core.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/pinned_memory.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

/// Until the GPU has written `mark`, or will not any more.
void await_word(std::uint64_t& word, std::uint64_t mark, const std::atomic<bool>& failed) {
  constexpr int kSpins = 1000;
  constexpr auto kSleep = std::chrono::microseconds(20);
  const std::atomic_ref<std::uint64_t> reached(word);
  for (int spin = 0; reached.load(std::memory_order_acquire) < mark; ++spin) {
    if (failed) throw DeviceError("the GPU failed while the host waited for it");
    if (spin >= kSpins) std::this_thread::sleep_for(kSleep);
  }
}

}  // namespace

ClockEvent::ClockEvent() { check(cudaEventCreate(&event), "cudaEventCreate"); }
ClockEvent::~ClockEvent() { cudaEventDestroy(event); }

CudaBackend::CudaBackend(BackendInfo info, int device, int threads, Trace* trace)
    : info_(std::move(info)),
      device_(device),
      threads_(threads),
      trace_(trace),
      host_(info_, trace) {
  if (device_attribute(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, device) != 0) {
    wait_value_ = driver_function("cuStreamWaitValue64", 12000);
    write_value_ = driver_function("cuStreamWriteValue64", 12000);
  } else {
    info_.description += ", without 64-bit stream memory operations";
  }
  std::int64_t clock_ns = 0;
  if (trace != nullptr) {
    clock_ = std::make_unique<ClockEvent>();
    check(cudaEventRecord(clock_->event, nullptr), "cudaEventRecord");
    check(cudaEventSynchronize(clock_->event), "cudaEventSynchronize");
    clock_ns = trace->now_ns();
  }
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (static_cast<Lane>(i) == Lane::host_compute) continue;
    streams_[i] = std::make_unique<StreamLane>(activity_of(static_cast<Lane>(i)), trace,
                                               clock_ ? clock_->event : nullptr, clock_ns);
  }
  constexpr std::size_t kWordBytes = kDeviceLaneCount * sizeof(std::uint64_t);
  check(cudaHostAlloc(reinterpret_cast<void**>(&reached_), kWordBytes, cudaHostAllocMapped),
        "cudaHostAlloc");
  std::memset(reached_, 0, kWordBytes);
  runner_ = std::make_unique<KernelRunner>(allocate_device(KernelRunner::kWorkspaceBytes));
  info_.workspace_bytes = KernelRunner::kWorkspaceBytes;
  // Memory of the context and the streams cannot be planned with. The workspace is in every plan.
  std::size_t free_bytes = 0;
  std::size_t all_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &all_bytes), "cudaMemGetInfo");
  info_.device_bytes = all_bytes;
  info_.device_free_bytes = free_bytes + info_.workspace_bytes;
  // For measuring what graphs bring.
  const char* const wanted = std::getenv("SLUICE_CUDA_GRAPHS");
  graphs_ = std::make_unique<CallGraphs>(*runner_, wanted == nullptr || wanted[0] != '0');
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(device_);
  // The host lane first: it may wait for streams, and streams for what it writes.
  try {
    watch_gpu_until(host_.record(Lane::host_compute));
  } catch (const DeviceError&) {  // whoever uses the device has been told
  }
  host_.drain(Lane::host_compute);
  for (auto& stream : streams_) stream.reset();
  graphs_.reset();
  runner_.reset();
  cudaFreeHost(reached_);
}

void CudaBackend::use_device() { check(cudaSetDevice(device_), "cudaSetDevice"); }

Memory CudaBackend::allocate_device(std::size_t bytes) {
  if (bytes == 0) return {};
  use_device();
  void* data = nullptr;
  if (const cudaError_t status = cudaMalloc(&data, bytes); status != cudaSuccess) {
    cudaGetLastError();  // an allocation that failed leaves the device as it was
    std::size_t there = 0;
    std::size_t all = 0;
    check(cudaMemGetInfo(&there, &all), "cudaMemGetInfo");
    throw CapacityError(fmt::format(
        "device memory: {} bytes are wanted but only {} of the GPU's {} bytes are free ({}); move "
        "shares to host or disk (policy.weights, policy.cache), or lower batching.gpu_batch_size",
        bytes, there, all, cudaGetErrorName(status)));
  }
  Memory memory{data, bytes, [](void* block, std::size_t) { cudaFree(block); }};
  check(cudaMemset(data, 0, bytes), "cudaMemset");
  // On a stream of its own, which ours do not wait for.
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  return memory;
}

Memory CudaBackend::allocate_host(std::size_t bytes, bool pinned) {
  if (!pinned) {
    pins_all_ = pins_all_ && bytes == 0;
    return map_memory(bytes, "host memory");
  }
  use_device();
  return pinned_memory(bytes, threads_);
}

void CudaBackend::copy(Lane on, void* target, const void* source, std::size_t bytes) {
  if (bytes == 0) return;
  if (on == Lane::host_compute) return host_.copy(on, target, source, bytes);
  use_device();
  put_pending(on);
  lane(on).timed([=](cudaStream_t stream) {
    check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
  });
  if (trace_ != nullptr) trace_->add_bytes(activity_of(on), bytes);
}

void CudaBackend::call(Lane on, void (*function)(void*), void* argument) {
  if (on == Lane::host_compute) return host_.call(on, function, argument);
  use_device();
  put_pending(on);
  lane(on).timed([=](cudaStream_t stream) {
    check(cudaLaunchHostFunc(stream, function, argument), "cudaLaunchHostFunc");
  });
}

Event CudaBackend::record(Lane on) {
  if (on != Lane::host_compute) {
    use_device();
    put_pending(on);
    Event event;
    event.lane = on;
    event.ticket = lane(on).record();
    return event;
  }
  // The ticket of what was put so far, and behind it the word that says it was reached.
  const std::lock_guard lock(host_mutex_);
  const Event event = host_.record(Lane::host_compute);
  host_.put(Lane::host_compute, [word = word_of(Lane::host_compute), ticket = event.ticket] {
    std::atomic_ref<std::uint64_t>(*word).store(ticket, std::memory_order_release);
  });
  return event;
}

void CudaBackend::wait(Lane on, Event event) {
  const Activity why = on == Lane::compute ? stall_reason_.take(event.lane) : Activity::stall_other;
  if (event.ticket == 0 || event.lane == on) return;
  if (on != Lane::host_compute) {
    // Also where the event is past: which operations are collected together must not depend on the
    // clock.
    use_device();
    put_pending(on);
    if (on == Lane::compute && !done(event)) lane(on).expect(why);
  }
  if (event.lane == Lane::host_compute) return wait_for_host(on, event);
  if (on != Lane::host_compute) {
    return lane(event.lane).hold(lane(on).stream(), event.ticket);
  }
  let_host_wait(event);
}

void CudaBackend::let_host_wait(Event event) {
  if (done(event)) return;
  if (write_value_ == nullptr) return lane(event.lane).synchronize(event.ticket);
  std::uint64_t mark = 0;
  {
    // A mark behind all work that is on the stream by now. Waiting for it ends: none of that work
    // waits for anything that the host lane does later.
    const std::lock_guard lock(marks_mutex_);
    mark = ++marks_[static_cast<std::size_t>(event.lane)];
    const auto write_value =
        reinterpret_cast<CUresult (*)(CUstream, CUdeviceptr, cuuint64_t, unsigned)>(write_value_);
    check_driver(
        write_value(lane(event.lane).stream(), reinterpret_cast<CUdeviceptr>(word_of(event.lane)),
                    mark, CU_STREAM_WRITE_VALUE_DEFAULT),
        "cuStreamWriteValue64");
  }
  host_.put(Lane::host_compute, [word = word_of(event.lane), mark, failed = &failed_] {
    await_word(*word, mark, *failed);
  });
}

void CudaBackend::wait_for_host(Lane on, Event event) {
  if (host_.done(event)) return;
  if (!pins_all_ || wait_value_ == nullptr) {
    // A copy from memory that is not pinned may read it when it is put, not when the stream gets
    // there (CUDA driver API, "API synchronization behavior").
    watch_gpu_until(event);
    return host_.synchronize(event);
  }
  use_device();
  const auto wait_value =
      reinterpret_cast<CUresult (*)(CUstream, CUdeviceptr, cuuint64_t, unsigned)>(wait_value_);
  check_driver(
      wait_value(lane(on).stream(), reinterpret_cast<CUdeviceptr>(word_of(Lane::host_compute)),
                 event.ticket, CU_STREAM_WAIT_VALUE_GEQ),
      "cuStreamWaitValue64");
}

bool CudaBackend::done(Event event) {
  if (event.ticket == 0) return true;
  if (event.lane == Lane::host_compute) return host_.done(event);
  use_device();
  try {
    return lane(event.lane).done(event.ticket);
  } catch (...) {
    failed_ = true;
    throw;
  }
}

void CudaBackend::synchronize(Event event) {
  if (event.ticket == 0) return;
  use_device();
  if (event.lane == Lane::host_compute) {
    watch_gpu_until(event);
    return host_.synchronize(event);
  }
  try {
    lane(event.lane).synchronize(event.ticket);
  } catch (...) {
    failed_ = true;
    throw;
  }
  // First learn when the compute lane stood still: only then is it known how much of a copy was
  // hidden.
  const std::int64_t known_ns = lane(Lane::compute).collect();
  for (const auto& stream : streams_) {
    if (stream && stream != streams_[0]) stream->collect(known_ns);
  }
}

/// The host lane may wait for the GPU, and does not check whether the GPU still works.
void CudaBackend::watch_gpu_until(Event of_host) {
  constexpr auto kSleep = std::chrono::microseconds(50);
  constexpr int kSleepsPerLook = 100;
  for (int sleep = 1; !host_.done(of_host); ++sleep) {
    std::this_thread::sleep_for(kSleep);
    if (sleep % kSleepsPerLook != 0) continue;
    for (const auto& stream : streams_) {
      const cudaError_t status = stream ? cudaStreamQuery(stream->stream()) : cudaSuccess;
      if (status == cudaSuccess || status == cudaErrorNotReady) continue;
      failed_ = true;
      check(status, "cudaStreamQuery");
    }
  }
}

void CudaBackend::compute(const OpCall& call) {
  bool full = false;
  {
    const std::lock_guard lock(pending_mutex_);
    full = graphs_->add(call);
  }
  if (!full) return;
  use_device();
  put_pending(Lane::compute);
}

void CudaBackend::put_pending(Lane on) {
  if (on != Lane::compute) return;
  const std::lock_guard lock(pending_mutex_);
  if (graphs_->empty()) return;
  lane(on).timed([this](cudaStream_t stream) { graphs_->put(stream); });
}

CallGraphs::Counts CudaBackend::graph_counts() {
  const std::lock_guard lock(pending_mutex_);
  return graphs_->counts();
}

void* CudaBackend::stream(Lane on) {
  if (on == Lane::host_compute) return nullptr;
  use_device();
  return lane(on).stream();
}

}  // namespace sluice::cuda
