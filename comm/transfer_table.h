// The messages a rank has under way. All slots (kCapacity) are made once, so sending allocates
// nothing.
//
// Both worlds keep their transfers here, and complete them in their own way. A slot goes
// free -> open -> complete (or failed) -> free. A Transfer carries the slot's generation: a second
// question about the same transfer is refused, and not answered for another message.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "comm/world.h"

namespace sluice::comm {

const char* name_of(Route route);

/// One send or receive. The bytes are the caller's until the transfer is complete.
struct Message {
  bool sending = false;
  Route route = Route::passes;
  int peer = 0;
  std::byte* data = nullptr;  // only read when sending
  std::size_t bytes = 0;
};

/// Any thread may call anything here.
class TransferTable {
 public:
  /// Enough for a stage's receives and sends of two passes of 1024 GPU batches each, and for as
  /// many passes of a head. stage_config.h and the launcher's schema keep to that.
  static constexpr int kCapacity = 8192;

  TransferTable();

  /// Takes a slot. Throws Error when all are taken, CommError after fail().
  Transfer open(const Message& message);
  static int slot_of(Transfer transfer) { return transfer.index % kCapacity; }
  const Message& message(int slot) const { return slots_[static_cast<std::size_t>(slot)].message; }

  /// The message of an open slot has arrived, or has been sent. Wakes the thread that waits for it.
  void complete(int slot, std::size_t bytes);
  /// From now on every call throws CommError(sentence). Wakes all threads. The first sentence
  /// stays.
  void fail(const std::string& sentence);
  void throw_if_failed() const;

  bool done(Transfer transfer, std::size_t* received_bytes);
  std::size_t wait(Transfer transfer);

  /// As World::ring_for() has it.
  void ring_for(Route route, Bell* bell);

 private:
  enum State : std::uint32_t { kFree, kOpen, kComplete, kFailed };
  struct Slot {
    std::atomic<std::uint32_t> state{kFree};
    std::int32_t generation = 0;
    Message message;
    std::size_t transferred_bytes = 0;
  };

  Slot& slot_for(Transfer transfer);
  std::size_t release(Slot& slot);
  void ring(Route route);

  std::array<Slot, kCapacity> slots_;
  mutable std::mutex mutex_;  // guards free_ and cause_
  std::array<std::int16_t, kCapacity> free_;
  int free_count_ = kCapacity;
  std::string cause_;
  std::atomic<bool> failed_{false};
  std::mutex bells_mutex_;
  std::array<Bell*, kRouteCount> bells_ = {};  // by route; null: nobody listens
};

/// Throws Error unless `peer` is a rank of the job.
void check_peer(int peer, int size);

}  // namespace sluice::comm
