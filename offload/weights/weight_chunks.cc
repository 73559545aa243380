#include "offload/weights/weight_chunks.h"

#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

#include "offload/memory_plan.h"

namespace sluice::offload {

namespace {

// The disk rows of one tensor.
struct Part {
  const WeightInfo* tensor = nullptr;
  std::uint64_t offset = 0;  // in the tensor
  std::uint64_t bytes = 0;
  std::size_t target = 0;  // in the slot
  WeightExtent extent;
  std::uint64_t end() const { return extent.offset + bytes; }
};

std::uint64_t block_at(std::uint64_t offset) { return offset / kDiskBlock * kDiskBlock; }

std::vector<Part> disk_parts(const GroupPlacement& group, WeightSource& source) {
  const std::vector<std::size_t> offsets = slot_offsets(group);
  std::vector<Part> parts;
  for (std::size_t t = 0; t < group.tensors.size(); ++t) {
    const TensorPlacement& tensor = group.tensors[t];
    const std::uint64_t bytes = tensor.bytes(Tier::disk);
    if (bytes == 0) continue;
    const std::uint64_t before = tensor.bytes(Tier::device) + tensor.bytes(Tier::host);
    parts.push_back({&tensor.info, before, bytes, offsets[t] + tensor.bytes(Tier::host),
                     source.extent(tensor.info, before, bytes)});
  }
  std::ranges::stable_sort(
      parts, {}, [](const Part& part) { return std::tuple(part.extent.file, part.extent.offset); });
  return parts;
}

// A tensor that no file has in one piece: the source itself reads it, piece by piece.
void add_unplaced(const Part& part, std::size_t chunk_bytes, std::vector<WeightChunk>& chunks) {
  for (std::uint64_t done = 0; done < part.bytes; done += chunk_bytes) {
    WeightChunk& chunk = chunks.emplace_back();
    chunk.from.offset = part.offset + done;
    chunk.tensor = *part.tensor;
    chunk.bytes = std::min<std::uint64_t>(chunk_bytes, part.bytes - done);
    chunk.copies = {{0, part.target + static_cast<std::size_t>(done), chunk.bytes}};
  }
}

// [begin, end) of a file, with the parts that lie in it. Cuts are at blocks, so that no block is
// read twice.
void add_run(std::span<const Part> parts, std::uint64_t end, std::size_t chunk_bytes,
             std::vector<WeightChunk>& chunks) {
  const WeightExtent& first = parts.front().extent;
  for (std::uint64_t begin = first.offset; begin < end;) {
    const std::uint64_t stop = std::min(end, block_at(begin) + chunk_bytes);
    WeightChunk& chunk = chunks.emplace_back();
    chunk.from = {first.disk, first.file, begin};
    chunk.bytes = stop - begin;
    for (const Part& part : parts) {
      const std::uint64_t from = std::max(begin, part.extent.offset);
      const std::uint64_t to = std::min(stop, part.end());
      if (from >= to) continue;
      chunk.copies.push_back({static_cast<std::size_t>(from - block_at(begin)),
                              part.target + static_cast<std::size_t>(from - part.extent.offset),
                              static_cast<std::size_t>(to - from)});
    }
    begin = stop;
  }
}

}  // namespace

std::vector<std::size_t> slot_offsets(const GroupPlacement& group) {
  std::vector<std::size_t> offsets = {0};
  for (const TensorPlacement& tensor : group.tensors) {
    offsets.push_back(offsets.back() +
                      arena_bytes(tensor.bytes(Tier::host) + tensor.bytes(Tier::disk)));
  }
  return offsets;
}

std::vector<WeightChunk> weight_chunks(const GroupPlacement& group, WeightSource& source,
                                       std::size_t chunk_bytes) {
  assert(chunk_bytes > 0 && chunk_bytes % kDiskBlock == 0);
  const std::vector<Part> parts = disk_parts(group, source);
  std::vector<WeightChunk> chunks;
  for (std::size_t i = 0; i < parts.size();) {
    if (parts[i].extent.disk == nullptr) {
      add_unplaced(parts[i++], chunk_bytes, chunks);
      continue;
    }
    // Together are parts whose blocks touch: nothing is read that nobody asked for.
    std::uint64_t end = parts[i].end();
    std::size_t stop = i + 1;
    while (stop < parts.size() && parts[stop].extent.disk == parts[i].extent.disk &&
           parts[stop].extent.file == parts[i].extent.file &&
           block_at(parts[stop].extent.offset) <= round_to_blocks(end)) {
      end = std::max(end, parts[stop++].end());
    }
    add_run({parts.begin() + static_cast<std::ptrdiff_t>(i), stop - i}, end, chunk_bytes, chunks);
    i = stop;
  }
  return chunks;
}

void read_chunk(const WeightChunk& chunk, WeightSource& source, std::byte* staging,
                IoGroup& group) {
  if (chunk.from.disk != nullptr) {
    chunk.from.disk->read_superset(chunk.from.file, chunk.from.offset, chunk.bytes, staging, group);
  } else {
    source.read(chunk.tensor, chunk.from.offset, chunk.bytes, staging, group);
  }
}

}  // namespace sluice::offload
