// A thread that takes finished work from the device, in order, and sends it on. The thread that
// issues work then never waits for a send or for sampling.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "kernels/device/backend.h"

namespace sluice::stage {

/// Hidden states of a GPU batch, in host memory, for the next stage.
struct HiddenPiece {
  std::size_t buffer = 0;  // of Workspace::outgoing
  std::int64_t rows = 0;
};
/// The results of a pass begin ...
struct ResultsBegin {
  std::int64_t pass = 0;
};
/// ... come chunk by chunk: logits, or what the device sampled from them ...
struct ResultsChunk {
  std::int64_t pass = 0;
  std::size_t set = 0;     // of the two host sets
  std::int32_t first = 0;  // row of the pass's list
  std::int32_t count = 0;
};
/// ... and are whole.
struct ResultsEnd {
  std::int64_t pass = 0;
};
using Departure = std::variant<HiddenPiece, ResultsBegin, ResultsChunk, ResultsEnd>;

/// A piece of work that may leave once `ready` is done.
struct OutboxItem {
  Event ready;
  Departure what;
};

/// Items of a stage's outbox that may wait at a time.
constexpr std::size_t kOutboxCapacity = 64;

class OutboxHandler {
 public:
  virtual ~OutboxHandler() = default;
  /// On the outbox's thread, items in the order they were posted, each after its event.
  virtual void handle(const Departure& what) = 0;
  /// handle() threw, or the device failed: nothing more will be handled.
  virtual void failed(std::exception_ptr cause) noexcept = 0;
};

class Outbox {
 public:
  /// A place in the order of items; a default one is long past.
  struct Ticket {
    std::uint64_t number = 0;
    Event ready;
  };

  /// Both must outlive it. At most `capacity` items wait at a time.
  Outbox(Backend& backend, OutboxHandler& handler, std::size_t capacity);
  ~Outbox();  // handles what was posted, unless it failed

  /// Blocks while full. One thread posts.
  Ticket post(const OutboxItem& item);
  /// Blocks until this item and all before it were handled, or the outbox failed. The item's event
  /// is done then.
  void wait(const Ticket& ticket);
  /// Blocks until everything posted so far was handled, or the outbox failed.
  void wait_all();

 private:
  bool await(std::uint64_t number);  // false: the outbox failed before
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
