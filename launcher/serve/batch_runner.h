// Runs the batches of a server, the oldest first and one at a time, on a thread of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "launcher/serve/batch_run.h"

namespace sluice::launcher {

class BatchRunner {
 public:
  /// A batch whose results cannot be written, as a disk is full, is tried again so often.
  static constexpr std::chrono::seconds kRetry{5};

  /// References must outlive it.
  BatchRunner(BatchStore& batches, FileStore& files, AskEndpoint ask)
      : batches_(batches), files_(files), ask_(std::move(ask)) {}
  /// As stop().
  ~BatchRunner() { stop(); }
  BatchRunner(const BatchRunner&) = delete;
  BatchRunner& operator=(const BatchRunner&) = delete;

  /// Goes on with what an earlier run of the server left.
  void start(std::size_t lines_at_once);
  /// A batch has come.
  void ring();
  /// Throws ApiError: there is no such batch, or it has ended.
  Batch cancel(const std::string& id);
  /// No line is asked for any more; what is under way is left for the next run. Any thread.
  void stop_soon() noexcept;
  /// The same, and waits for it.
  void stop() noexcept;

 private:
  void work();
  /// True: it is to be tried again after kRetry.
  bool run(const Batch& batch);
  bool wait(const Batch& batch, const std::string& problem);

  BatchStore& batches_;
  FileStore& files_;
  const AskEndpoint ask_;
  std::size_t lines_at_once_ = 1;
  std::mutex mutex_;
  std::condition_variable came_;
  bool rung_ = false;
  BatchRun* running_ = nullptr;
  std::string running_id_;
  std::string told_;  // the last problem that was said
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace sluice::launcher
