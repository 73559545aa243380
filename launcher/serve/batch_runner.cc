#include "launcher/serve/batch_runner.h"

#include <fmt/format.h>

#include <exception>
#include <iostream>

#include "kernels/device/error.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {

void BatchRunner::start(std::size_t lines_at_once) {
  lines_at_once_ = lines_at_once;
  thread_ = std::thread([this] { work(); });
}

void BatchRunner::ring() {
  {
    const std::lock_guard lock(mutex_);
    rung_ = true;
  }
  came_.notify_all();
}

Batch BatchRunner::cancel(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto batch = batches_.find(id);
  if (!batch) throw ApiError{404, fmt::format("there is no batch {}", Json(id).dump(-1, true))};
  if (batch->has_ended()) {
    throw ApiError{400, fmt::format("the batch {} has ended; it cannot be cancelled", id)};
  }
  const bool runs = running_id_ == id;
  const Batch changed = batches_.change(id, [runs](Batch& one) {
    one.cancelling = unix_seconds();
    one.status = BatchStatus::cancelling;
    if (runs || one.begun != 0) return;
    one.status = BatchStatus::cancelled;  // it has no results
    one.ended = one.cancelling;
  });
  if (runs && running_ != nullptr) running_->wake();
  return changed;
}

void BatchRunner::stop_soon() noexcept {
  stopping_ = true;
  const std::lock_guard lock(mutex_);
  if (running_ != nullptr) running_->wake();
  came_.notify_all();
}

void BatchRunner::stop() noexcept {
  stop_soon();
  if (thread_.joinable()) thread_.join();
}

void BatchRunner::work() {
  while (!stopping_) {
    std::unique_lock lock(mutex_);
    const auto next = batches_.next();
    if (!next) {
      came_.wait(lock, [this] { return rung_ || stopping_; });
      rung_ = false;
      continue;
    }
    running_id_ = next->id;
    lock.unlock();
    const bool again = run(*next);
    lock.lock();
    running_id_.clear();
    if (again) came_.wait_for(lock, kRetry, [this] { return stopping_.load(); });
  }
}

bool BatchRunner::run(const Batch& batch) {
  batches_.show_problem(batch.id, "");
  BatchRun run(batch, batches_, files_, ask_, lines_at_once_, stopping_);
  {
    const std::lock_guard lock(mutex_);
    running_ = &run;
  }
  std::string problem;
  bool passes = false;  // room may be made on a disk
  try {
    run.run();
  } catch (const IoError& error) {
    problem = error.what();
    passes = true;
  } catch (const CapacityError& error) {
    problem = error.what();
    passes = true;
  } catch (const std::exception& error) {
    problem = error.what();
  }
  const std::lock_guard lock(mutex_);
  running_ = nullptr;
  if (problem.empty() || stopping_) return false;
  if (passes && unix_seconds() < batch.expires) return wait(batch, problem);
  std::cerr << fmt::format("sluice: the batch {} has failed: {}\n", batch.id, problem);
  try {
    batches_.change(batch.id, [&problem](Batch& one) {
      one.status = BatchStatus::failed;
      one.problem = problem;
      one.ended = unix_seconds();
      one.output_file.clear();
      one.error_file.clear();
    });
  } catch (const std::exception& error) {
    return wait(batch, error.what());
  }
  return false;
}

/// Says so once, and shows it to clients as long as it lasts.
bool BatchRunner::wait(const Batch& batch, const std::string& problem) {
  if (std::exchange(told_, problem) != problem) {
    std::cerr << fmt::format("sluice: the batch {} waits, and is tried again every {} s: {}\n",
                             batch.id, kRetry.count(), problem);
  }
  batches_.show_problem(batch.id, problem);
  return true;
}

}  // namespace sluice::launcher
