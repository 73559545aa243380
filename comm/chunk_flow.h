// The messages of one direction between two ranks on one route, in order, cut into chunks, because
// MPI counts bytes in an int.
//
// A message ends with its first chunk that is not full (an empty one, if need be), so the receiver
// needs no length in advance. A message that fits into one chunk that is not full starts at once,
// beside others; a longer one holds back those behind it until it is through, at both ends alike.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "comm/transfer_table.h"

namespace sluice::comm {

struct Chunk {
  int slot = -1;
  std::byte* data = nullptr;
  int bytes = 0;
};

/// One thread. Never allocates.
class ChunkFlow {
 public:
  /// 0 < chunk_bytes <= 2^30.
  explicit ChunkFlow(std::size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

  /// Queues the message of a transfer slot.
  void push(int slot, const Message& message);

  /// The next chunk to hand to the transport, in this order; nothing when all have been or the rest
  /// must wait.
  std::optional<Chunk> next();

  /// A chunk is through. Returns the bytes of the whole message when that ends it.
  std::optional<std::size_t> finished(int slot, std::size_t bytes);

 private:
  struct Queued {
    std::int16_t slot = -1;
    std::byte* data = nullptr;
    std::size_t bytes = 0;
  };

  std::size_t chunk_bytes_;
  std::array<Queued, TransferTable::kCapacity> queue_ = {};
  int first_ = 0;
  int count_ = 0;
  int long_slot_ = -1;  // the message of several chunks under way
  Queued long_message_;
  std::size_t moved_ = 0;
  bool chunk_due_ = false;  // its next chunk has not been handed out
};

}  // namespace sluice::comm
