// Threads that do what must not hold up the head's thread or the server's: reading requests,
// tokenizing, writing large answers.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice::launcher {

class WorkQueue {
 public:
  WorkQueue() = default;
  /// As stop().
  ~WorkQueue() { stop(); }
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  /// Once.
  void start(int threads);
  /// `work` must not throw. Any thread. After stop() it is not done.
  void push(std::function<void()> work);
  /// Waits for what has begun; the rest is not done.
  void stop() noexcept;

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> works_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace sluice::launcher
