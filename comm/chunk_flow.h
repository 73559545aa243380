// The messages of one direction between two ranks on one route, in order. They are cut into chunks,
// because MPI counts bytes in an int.
//
// A message ends with its first chunk that is not full, which may be empty, so the receiver needs
// no length in advance. A message shorter than a chunk starts at once, beside others. A longer one
// holds back the messages behind it until it is through, at both ends alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "comm/transfer_table.h"

namespace sluice::comm {

struct Chunk {
  int slot = -1;
  std::byte* data = nullptr;
  int bytes = 0;
};

/// A message that waits for its turn, and the slot of the one behind it.
struct QueuedMessage {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  int next = -1;
};

/// One thread. Never allocates.
class ChunkFlow {
 public:
  /// 0 < chunk_bytes <= 2^30. `queued`, by slot, is shared by all flows of a rank and must outlive
  /// them; a slot is in one flow at most.
  ChunkFlow(std::size_t chunk_bytes, std::vector<QueuedMessage>& queued)
      : chunk_bytes_(chunk_bytes), queued_(&queued) {}

  /// Queues the message of a transfer slot.
  void push(int slot, const Message& message);

  /// The next chunk to hand to the transport, in this order. Nothing when all have been handed out,
  /// or when the rest must wait for a long message.
  std::optional<Chunk> next();

  /// A chunk is through. Returns the bytes of the whole message when that ends it.
  std::optional<std::size_t> finished(int slot, std::size_t bytes);

 private:
  std::size_t chunk_bytes_;
  std::vector<QueuedMessage>* queued_;
  int first_ = -1;  // slots, in order of `next`; -1: none
  int last_ = -1;
  int long_slot_ = -1;  // the message of several chunks under way
  QueuedMessage long_message_;
  std::size_t moved_ = 0;
  bool chunk_due_ = false;  // its next chunk has not been handed out
};

}  // namespace sluice::comm
