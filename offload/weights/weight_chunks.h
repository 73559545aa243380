// The disk rows of a group as few large reads. Tensors that lie side by side in a file are read
// together; long runs are cut into chunks of one size. Arithmetic over extents, done once. A part
// of WeightStream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "offload/weights/placement.h"

namespace sluice::offload {

/// One read into a staging buffer, and what it brought.
struct WeightChunk {
  /// Of the file it is read from, or with `disk` null from the tensor.
  WeightExtent from;
  WeightInfo tensor;
  std::size_t bytes = 0;
  struct Copy {
    std::size_t source = 0;  // in the staging buffer
    std::size_t target = 0;  // in the group's place in the ring
    std::size_t bytes = 0;
  };
  std::vector<Copy> copies;
};

/// Where each tensor's streamed rows (host, then disk) begin in the group's place, and where they
/// end.
std::vector<std::size_t> slot_offsets(const GroupPlacement& group);

/// The reads of a group's disk rows, in the order of the file. None needs more than `chunk_bytes`
/// (a multiple of kDiskBlock) of a staging buffer.
std::vector<WeightChunk> weight_chunks(const GroupPlacement& group, WeightSource& source,
                                       std::size_t chunk_bytes);

/// Starts the read into `staging`, a multiple of kDiskBlock.
void read_chunk(const WeightChunk& chunk, WeightSource& source, std::byte* staging, IoGroup& group);

}  // namespace sluice::offload
