// One lane of the CPU backend: a thread that does what it is given, in order.
//
// The queue is a ring of fixed-size tasks whose arguments lie in the ring itself, so that putting
// work allocates nothing; where the ring is full the caller waits for a place. Every task has a
// ticket, counted from 1; ticket 0 is long past. The thread looks for work for a few microseconds,
// then sleeps: ranks share their cores, and a lane that spins steals from another's compute.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>

#include "kernels/device/first_failure.h"
#include "kernels/device/trace.h"

namespace sluice {

class LaneQueue {
 public:
  static constexpr std::size_t kArgumentBytes = 240;
  static constexpr std::uint64_t kCapacity = 1024;

  /// Whether a task's time counts as the lane's busy time; waiting for another lane does not.
  enum class Account : std::uint8_t { busy, waiting };

  /// `activity` is what the lane's busy time is added to; `trace` may be null. The lane of
  /// Activity::compute also tells it when it has nothing to do. A task that throws
  /// leaves its sentence in `failure`, and the lane goes on. Throws DeviceError without a thread.
  LaneQueue(const char* name, Activity activity, Trace* trace, FirstFailure& failure);
  ~LaneQueue();  // finish()
  LaneQueue(const LaneQueue&) = delete;
  LaneQueue& operator=(const LaneQueue&) = delete;

  /// Does everything that was put, then ends the thread. Nothing may be put from then on.
  void finish();

  /// Puts `work()` and returns its ticket. Any thread but the lane's own.
  template <class Work>
  std::uint64_t put(const Work& work, Account account = Account::busy) {
    static_assert(std::is_trivially_copyable_v<Work> && std::is_trivially_destructible_v<Work>);
    static_assert(sizeof(Work) <= kArgumentBytes && alignof(Work) <= alignof(std::max_align_t));
    return put_bytes(
        &work, sizeof(Work), [](void* arguments) { (*static_cast<Work*>(arguments))(); }, account);
  }

  /// The ticket of the last task put.
  std::uint64_t last() const { return put_.load(std::memory_order_acquire); }
  bool done(std::uint64_t ticket) const {
    return completed_.load(std::memory_order_acquire) >= ticket;
  }
  /// Blocks until `ticket` is done. `ticket` must not be beyond last().
  void wait(std::uint64_t ticket);

 private:
  using Run = void (*)(void* arguments);
  struct Task {
    Run run;
    Account account;
    alignas(std::max_align_t) std::array<std::byte, kArgumentBytes> arguments;
  };

  std::uint64_t put_bytes(const void* arguments, std::size_t bytes, Run run, Account account);
  void run_all();
  bool await_work(std::uint64_t next);
  void run_one(Task& task);
  void complete(std::uint64_t ticket);

  const char* name_;
  Activity activity_;
  Trace* trace_;
  FirstFailure& failure_;
  std::unique_ptr<Task[]> ring_;

  std::mutex mutex_;  // of putting, and of going to sleep
  std::condition_variable work_;
  std::condition_variable progress_;
  std::atomic<std::uint64_t> put_{0};
  std::atomic<std::uint64_t> completed_{0};
  std::atomic<std::int32_t> watchers_{0};  // threads that sleep, or are about to, on progress_
  bool asleep_ = false;                    // the lane's thread, on work_
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice
