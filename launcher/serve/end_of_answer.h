// Tells, once, of the end of an answer: HttpReply::on_end().
#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace sluice::launcher {

/// Any thread.
class EndOfAnswer {
 public:
  /// `function` runs with what tell() says, or said: then at once.
  void set(std::function<void(bool)> function) {
    std::unique_lock lock(mutex_);
    if (!ended_) {
      function_ = std::move(function);
      return;
    }
    lock.unlock();
    function(gone_);
  }
  void tell(bool gone) {
    std::unique_lock lock(mutex_);
    if (std::exchange(ended_, true)) return;
    gone_ = gone;
    const auto function = std::exchange(function_, nullptr);
    lock.unlock();
    if (function) function(gone);
  }

 private:
  std::mutex mutex_;
  std::function<void(bool)> function_;
  bool ended_ = false;
  bool gone_ = false;
};

}  // namespace sluice::launcher
