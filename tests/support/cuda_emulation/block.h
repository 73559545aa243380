// Runs the threads of a CUDA block on the host, one at a time on fibers of one host thread, with
// barriers and meetings of warps as on a GPU of compute capability 7.0 or later: threads that ended
// count as there, and whatever CUDA leaves undefined is a std::logic_error. A thread that never
// waits costs no switch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace sluice::support {

struct Dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

/// What the kernels see as threadIdx and the like: of the thread that runs.
struct CudaPlace {
  Dim3 thread{0, 0, 0};
  Dim3 block{0, 0, 0};
  Dim3 threads;
  Dim3 blocks;
};
extern CudaPlace cuda_place;

constexpr unsigned kWarp = 32;
constexpr std::size_t kMeetingBytes = 64;  // most a lane can show the others

/// Which of the threads (and blocks) that could run goes first. A GPU promises nothing; kernels
/// that are right give the same bytes in every order.
struct RunOrder {
  enum class Kind { ascending, descending, shuffled };
  Kind kind = Kind::ascending;
  std::uint64_t seed = 0;  // of shuffled: drawn anew at every choice
};
extern RunOrder run_order;

/// What the lanes of one warp showed each other.
class Meeting {
 public:
  /// What `lane` showed. Throws std::logic_error of a lane that was not there.
  template <class T>
  T of(unsigned lane) const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMeetingBytes);
    if (!has(lane)) {
      throw std::logic_error("lane " + std::to_string(lane) +
                             " is read, but took no part: undefined on a GPU");
    }
    T value;
    std::memcpy(&value, shown_[lane].data(), sizeof(T));
    return value;
  }
  bool has(unsigned lane) const { return lane < kWarp && (lanes_ >> lane & 1U) != 0; }
  unsigned lanes() const { return lanes_; }

 private:
  friend class BlockRunner;
  unsigned lanes_ = 0;
  unsigned readers_ = 0;
  std::array<std::array<std::byte, kMeetingBytes>, kWarp> shown_;
};

/// The calling thread's lane in its warp.
inline unsigned lane_of_thread() { return cuda_place.thread.x % kWarp; }

/// Waits for all threads of the block.
void meet_block();

/// Waits for the lanes of `mask` (all of the warp that have not ended must come with the same mask
/// and `what`, the name of the intrinsic), and shows them `bytes` bytes. The meeting is the
/// caller's to read until its next one.
const Meeting& meet_warp(unsigned mask, const void* shown, std::size_t bytes, const char* what);

/// meet_warp() with a value of any type of at most kMeetingBytes.
template <class T>
const Meeting& exchange(unsigned mask, const T& value, const char* what) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMeetingBytes);
  return meet_warp(mask, &value, sizeof(T), what);
}

/// kernel<<<blocks, threads, shared_bytes>>>: every thread calls `kernel()`. Shared memory starts
/// as NaN. Returns when all have ended; throws what a thread throws, or std::logic_error where they
/// wait for each other for ever. One grid runs at a time, whatever host threads ask.
void launch_on_host(Dim3 blocks, unsigned threads, std::size_t shared_bytes,
                    const std::function<void()>& kernel);

/// extern __shared__ of the block that runs; 128-byte aligned.
std::byte* dynamic_shared_memory();

}  // namespace sluice::support
