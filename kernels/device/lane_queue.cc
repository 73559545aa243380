#include "kernels/device/lane_queue.h"

#include <hwy/cache_control.h>

#include <cstring>
#include <exception>
#include <string>
#include <system_error>

namespace sluice {

namespace {
// A pause is 10 to 50 ns: a few microseconds, about what putting a thread to sleep and waking it
// costs. Longer would only pay where cores are idle.
constexpr int kSpins = 100;
}  // namespace

LaneQueue::LaneQueue(const char* name, Activity activity, Trace* trace, FirstFailure& failure)
    : name_(name),
      activity_(activity),
      trace_(trace),
      failure_(failure),
      ring_(std::make_unique<Task[]>(kCapacity)) {
  try {
    thread_ = std::thread([this] { run_all(); });
  } catch (const std::system_error& error) {
    throw DeviceError(std::string("cannot start the thread of lane '") + name +
                      "': " + error.what() + "; raise the limit of processes (ulimit -u)");
  }
}

LaneQueue::~LaneQueue() { finish(); }

void LaneQueue::finish() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::uint64_t LaneQueue::put_bytes(const void* arguments, std::size_t bytes, Run run,
                                   Account account) {
  std::unique_lock lock(mutex_);
  const auto has_place = [this] {
    return put_.load(std::memory_order_relaxed) - completed_.load() < kCapacity;
  };
  if (!has_place()) {
    watchers_.fetch_add(1);
    progress_.wait(lock, has_place);
    watchers_.fetch_sub(1);
  }
  const std::uint64_t ticket = put_.load(std::memory_order_relaxed) + 1;
  Task& task = ring_[(ticket - 1) % kCapacity];
  task.run = run;
  task.account = account;
  std::memcpy(task.arguments.data(), arguments, bytes);
  put_.store(ticket);
  if (asleep_) work_.notify_one();
  return ticket;
}

void LaneQueue::wait(std::uint64_t ticket) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done(ticket)) return;
    hwy::Pause();
  }
  // Announced before the look under the lock: complete() stores before it looks for watchers, so
  // either this thread sees the ticket or complete() sees this thread.
  watchers_.fetch_add(1);
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] { return completed_.load() >= ticket; });
  lock.unlock();
  watchers_.fetch_sub(1);
}

bool LaneQueue::await_work(std::uint64_t next) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (put_.load(std::memory_order_acquire) >= next) return true;
    hwy::Pause();
  }
  const bool tells = trace_ != nullptr && activity_ == Activity::compute;
  if (tells) trace_->begin_stall();
  std::unique_lock lock(mutex_);
  asleep_ = true;
  work_.wait(lock, [&] { return put_.load() >= next || stopping_; });
  asleep_ = false;
  lock.unlock();
  if (tells) trace_->end_starvation();
  return put_.load() >= next;
}

void LaneQueue::run_all() {
  for (std::uint64_t next = 1; await_work(next); ++next) {
    run_one(ring_[(next - 1) % kCapacity]);
    complete(next);
  }
}

void LaneQueue::run_one(Task& task) {
  ScopedSpan span(task.account == Account::busy ? trace_ : nullptr, activity_);
  try {
    task.run(task.arguments.data());
  } catch (const std::exception& error) {
    failure_.keep(std::string("lane '") + name_ + "': " + error.what());
  } catch (...) {
    failure_.keep(std::string("lane '") + name_ + "': a task threw something that is no exception");
  }
}

void LaneQueue::complete(std::uint64_t ticket) {
  completed_.store(ticket);
  if (watchers_.load() == 0) return;
  { const std::lock_guard lock(mutex_); }  // whoever looked and saw nothing sleeps by now
  progress_.notify_all();
}

}  // namespace sluice
