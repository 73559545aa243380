#include "comm/chunk_flow.h"

#include <algorithm>

namespace sluice::comm {

void ChunkFlow::push(int slot, const Message& message) {
  (*queued_)[static_cast<std::size_t>(slot)] = {message.data, message.bytes, -1};
  if (first_ < 0) {
    first_ = slot;
  } else {
    (*queued_)[static_cast<std::size_t>(last_)].next = slot;
  }
  last_ = slot;
}

std::optional<Chunk> ChunkFlow::next() {
  if (long_slot_ < 0 && first_ >= 0) {
    const int slot = first_;
    const QueuedMessage message = (*queued_)[static_cast<std::size_t>(slot)];
    first_ = message.next;
    if (message.bytes < chunk_bytes_) {
      return Chunk{slot, message.data, static_cast<int>(message.bytes)};
    }
    long_slot_ = slot;
    long_message_ = message;
    moved_ = 0;
    chunk_due_ = true;
  }
  if (!chunk_due_) return std::nullopt;
  chunk_due_ = false;
  const std::size_t bytes = std::min(chunk_bytes_, long_message_.bytes - moved_);
  return Chunk{long_slot_, long_message_.data + moved_, static_cast<int>(bytes)};
}

std::optional<std::size_t> ChunkFlow::finished(int slot, std::size_t bytes) {
  if (slot != long_slot_) return bytes;
  moved_ += bytes;
  if (bytes == chunk_bytes_) {
    chunk_due_ = true;
    return std::nullopt;
  }
  long_slot_ = -1;
  return moved_;
}

}  // namespace sluice::comm
