// What leaves a stage: a thread that takes finished work from the device, in order, so that the
// thread that issues work never waits for a send or for sampling.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/device/backend.h"

namespace sluice::stage {

/// A piece of work that is ready to leave once `ready` is done. The numbers are the handler's own.
struct OutboxItem {
  Event ready;
  std::int32_t kind = 0;
  std::int32_t buffer = 0;
  std::int32_t gpu_batch = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
};

class OutboxHandler {
 public:
  virtual ~OutboxHandler() = default;
  /// On the outbox's thread, items in the order they were posted, each after its event.
  virtual void handle(const OutboxItem& item) = 0;
  /// handle() threw, or the device failed: nothing more will be handled.
  virtual void failed(std::exception_ptr cause) noexcept = 0;
};

class Outbox {
 public:
  /// Both must outlive it. At most `capacity` items wait at a time.
  Outbox(Backend& backend, OutboxHandler& handler, std::size_t capacity);
  ~Outbox();  // handles what was posted, unless it failed

  /// Blocks while full. One thread posts. Returns the item's ticket: 1, 2, 3, ...
  std::uint64_t post(const OutboxItem& item);
  /// Blocks until the item of this ticket (and all before) was handled, or the outbox failed.
  void wait(std::uint64_t ticket);

 private:
  void work();

  Backend& backend_;
  OutboxHandler& handler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<OutboxItem> ring_;
  std::uint64_t posted_ = 0;
  std::uint64_t handled_ = 0;
  bool stopping_ = false;
  bool failed_ = false;
  std::thread thread_;
};

}  // namespace sluice::stage
