#include "comm/chunk_flow.h"

#include <algorithm>

namespace sluice::comm {

void ChunkFlow::push(int slot, const Message& message) {
  const int last = (first_ + count_) % TransferTable::kCapacity;
  queue_[static_cast<std::size_t>(last)] = {static_cast<std::int16_t>(slot), message.data,
                                            message.bytes};
  ++count_;
}

std::optional<Chunk> ChunkFlow::next() {
  if (long_slot_ < 0 && count_ > 0) {
    const Queued message = queue_[static_cast<std::size_t>(first_)];
    first_ = (first_ + 1) % TransferTable::kCapacity;
    --count_;
    if (message.bytes < chunk_bytes_) {
      return Chunk{message.slot, message.data, static_cast<int>(message.bytes)};
    }
    long_slot_ = message.slot;
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
