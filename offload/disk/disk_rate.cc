#include "offload/disk/disk_rate.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <utility>

#include "offload/disk/disk_requests.h"

namespace sluice::offload {

std::int64_t SteadyDiskClock::now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void SteadyDiskClock::wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                           std::int64_t until_ns) {
  changed.wait_until(
      lock, std::chrono::time_point<std::chrono::steady_clock>(std::chrono::nanoseconds(until_ns)));
}

std::int64_t RateLimit::due_ns(std::int64_t now_ns, std::size_t bytes) {
  const double begin = std::max(static_cast<double>(now_ns), busy_until_ns_);
  busy_until_ns_ = begin + static_cast<double>(bytes) / gbps_;
  return static_cast<std::int64_t>(busy_until_ns_);
}

DelayLine::DelayLine(DiskClock& clock, std::function<void(DiskRequest&)> release)
    : clock_(clock), release_(std::move(release)), thread_([this] { run(); }) {}

DelayLine::~DelayLine() {
  {
    const std::lock_guard lock(mutex_);
    assert(first_ == nullptr);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DelayLine::hold(DiskRequest& request) {
  {
    const std::lock_guard lock(mutex_);
    DiskRequest** place = &first_;
    while (*place != nullptr && (*place)->due_ns <= request.due_ns) place = &(*place)->next;
    request.next = *place;
    *place = &request;
  }
  changed_.notify_all();
}

void DelayLine::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (first_ == nullptr) {
      if (stopping_) return;
      changed_.wait(lock);
    } else if (first_->due_ns > clock_.now_ns()) {
      clock_.wait(lock, changed_, first_->due_ns);
    } else {
      DiskRequest& request = *first_;
      first_ = request.next;
      lock.unlock();
      release_(request);
      lock.lock();
    }
  }
}

}  // namespace sluice::offload
