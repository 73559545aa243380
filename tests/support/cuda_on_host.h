// Runs CUDA kernels on the host, one block after the other, each thread of a block a coroutine: so
// that index and ragged-edge errors are found before any GPU is there. Include it before the .cuh
// files. Barriers and shuffles work as on the device (a thread that ended counts as there); memory
// order does not: what a missing __syncthreads() breaks may still be right here.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#undef __shared__
#define __shared__ static  // one block at a time

namespace sluice::support {

struct Dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

/// What the kernels see as threadIdx and the like: of the coroutine that runs.
struct CudaPlace {
  Dim3 thread{0, 0, 0};
  Dim3 block{0, 0, 0};
  Dim3 threads;
  Dim3 blocks;
};
inline CudaPlace cuda_place;
inline std::vector<float> cuda_shared;  // extern __shared__ of the block

/// The threads of one block.
class CudaBlock {
 public:
  CudaBlock(unsigned threads, std::function<void()> kernel)
      : kernel_(std::move(kernel)), threads_(threads) {
    for (Thread& thread : threads_) prepare(thread);
  }

  void run() {
    current_block = this;
    while (step()) {
    }
    current_block = nullptr;
  }

  void barrier() { stop(State::at_barrier); }

  /// The value of lane ^ distance of the same warp.
  template <class Value>
  Value exchange(Value value, int distance) {
    static_assert(sizeof(Value) <= sizeof(Thread::value));
    std::memcpy(threads_[current_].value, &value, sizeof(value));
    stop(State::at_exchange);
    const unsigned other =
        (current_ / 32 * 32) + ((current_ % 32) ^ static_cast<unsigned>(distance));
    Value result;
    std::memcpy(&result, threads_[other].value, sizeof(result));
    stop(State::at_exchange);  // nobody overwrites its value before all have read
    return result;
  }

  static inline CudaBlock* current_block = nullptr;

 private:
  static constexpr std::size_t kStackBytes = 64 << 10;
  enum class State { ready, at_barrier, at_exchange, ended };
  struct Thread {
    ucontext_t context;
    std::unique_ptr<std::byte[]> stack;
    State state = State::ready;
    std::byte value[8] = {};
  };

  void prepare(Thread& thread) {
    thread.stack = std::make_unique<std::byte[]>(kStackBytes);
    if (getcontext(&thread.context) != 0) throw std::runtime_error("getcontext failed");
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = &scheduler_;
    makecontext(&thread.context, reinterpret_cast<void (*)()>(&CudaBlock::enter), 0);
  }

  static void enter() {
    CudaBlock* const block = current_block;
    block->kernel_();
    block->threads_[block->current_].state = State::ended;
  }

  void stop(State state) {
    threads_[current_].state = state;
    swapcontext(&threads_[current_].context, &scheduler_);
  }

  /// Runs every thread that can, then opens what all wait for. False: all have ended.
  bool step() {
    bool ran = false;
    for (unsigned i = 0; i < threads_.size(); ++i) {
      if (threads_[i].state != State::ready) continue;
      current_ = i;
      cuda_place.thread = {i, 0, 0};
      swapcontext(&scheduler_, &threads_[i].context);
      ran = true;
    }
    const bool opened = open(0, threads_.size(), State::at_barrier) || open_warps();
    if (!ran && !opened && !all_ended()) throw std::logic_error("the threads of a block are stuck");
    return !all_ended();
  }

  bool open_warps() {
    bool opened = false;
    for (std::size_t first = 0; first < threads_.size(); first += 32) {
      opened |= open(first, std::min(first + 32, threads_.size()), State::at_exchange);
    }
    return opened;
  }

  /// If every thread of the range has ended or is in `state`, and one is, lets them go on.
  bool open(std::size_t first, std::size_t end, State state) {
    bool any = false;
    for (std::size_t i = first; i < end; ++i) {
      if (threads_[i].state == state) {
        any = true;
      } else if (threads_[i].state != State::ended) {
        return false;
      }
    }
    for (std::size_t i = first; any && i < end; ++i) {
      if (threads_[i].state == state) threads_[i].state = State::ready;
    }
    return any;
  }

  bool all_ended() const {
    for (const Thread& thread : threads_) {
      if (thread.state != State::ended) return false;
    }
    return true;
  }

  std::function<void()> kernel_;
  std::vector<Thread> threads_;
  ucontext_t scheduler_ = {};
  unsigned current_ = 0;
};

/// kernel<<<blocks, threads, shared_bytes>>>: `kernel()` is called by every thread.
inline void launch_on_host(Dim3 blocks, unsigned threads, std::size_t shared_bytes,
                           const std::function<void()>& kernel) {
  cuda_place.threads = {threads, 1, 1};
  cuda_place.blocks = blocks;
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        cuda_place.block = {x, y, z};
        cuda_shared.assign(shared_bytes / sizeof(float) + 1, std::nanf(""));
        CudaBlock(threads, kernel).run();
      }
    }
  }
}

}  // namespace sluice::support

#define threadIdx (::sluice::support::cuda_place.thread)
#define blockIdx (::sluice::support::cuda_place.block)
#define blockDim (::sluice::support::cuda_place.threads)
#define gridDim (::sluice::support::cuda_place.blocks)

inline void __syncthreads() { ::sluice::support::CudaBlock::current_block->barrier(); }
template <class Value>
Value __shfl_xor_sync(unsigned, Value value, int distance) {
  return ::sluice::support::CudaBlock::current_block->exchange(value, distance);
}
inline unsigned atomicAdd(unsigned* to, unsigned value) { return std::exchange(*to, *to + value); }
namespace sluice::cuda {
inline float* host_shared() { return support::cuda_shared.data(); }
}  // namespace sluice::cuda
using std::max;
using std::min;
