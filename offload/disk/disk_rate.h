// Makes a disk slower than it is: requests are finished no earlier than a disk of the given rate,
// which does one after the other, would have. A part of the disk engine.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace sluice::offload {

struct DiskRequest;

/// Time as the limits know it. Tests bring their own.
class DiskClock {
 public:
  virtual ~DiskClock() = default;
  virtual std::int64_t now_ns() = 0;
  /// Returns when it is `until_ns`, when `changed` is notified, or sooner.
  virtual void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                    std::int64_t until_ns) = 0;
};

/// The machine's.
class SteadyDiskClock final : public DiskClock {
 public:
  std::int64_t now_ns() override;
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
            std::int64_t until_ns) override;
};

/// When a request that starts now is done, where the disk does one after the other. One thread at a
/// time.
class RateLimit {
 public:
  /// In 10^9 bytes per second; 0: no limit.
  explicit RateLimit(double gbps) : gbps_(gbps) {}
  bool limits() const { return gbps_ > 0; }
  std::int64_t due_ns(std::int64_t now_ns, std::size_t bytes);

 private:
  double gbps_;
  double busy_until_ns_ = 0;
};

/// Requests whose bytes are there, waiting for the time they are due at.
class DelayLine {
 public:
  /// `release` is called by the line's own thread.
  DelayLine(DiskClock& clock, std::function<void(DiskRequest&)> release);
  ~DelayLine();  // nothing is held any more
  DelayLine(const DelayLine&) = delete;
  DelayLine& operator=(const DelayLine&) = delete;

  /// Keeps it until request.due_ns. Any thread; does not allocate.
  void hold(DiskRequest& request);

 private:
  void run();

  DiskClock& clock_;
  std::function<void(DiskRequest&)> release_;
  std::mutex mutex_;
  std::condition_variable changed_;
  DiskRequest* first_ = nullptr;  // by due_ns
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::offload
