// Keeps the first failure of any lane. Later failures are its consequences and would only confuse.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "kernels/device/error.h"

namespace sluice {

/// Any thread. Once there is a failure, there always is.
class FirstFailure {
 public:
  void keep(const std::string& sentence) {
    const std::lock_guard lock(mutex_);
    if (failed_.load(std::memory_order_relaxed)) return;
    sentence_ = sentence;
    failed_.store(true, std::memory_order_release);
  }

  /// Throws DeviceError with the kept sentence, every time.
  void rethrow() const {
    if (failed_.load(std::memory_order_acquire)) throw DeviceError(sentence_);
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> failed_{false};
  std::string sentence_;  // written once, before failed_
};

}  // namespace sluice
