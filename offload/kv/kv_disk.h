// The disk tier of the cache: full pages in one file, the partial page of every sequence in host
// memory. Reads fill a ring of host buffers ahead of use. Pages that a pass has filled are gathered
// in a ring of write buffers, and written when their bytes have arrived.
//
// One thread calls. It waits only for the disk and for the buffers of the step before the last.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/trace.h"
#include "kernels/ops.h"
#include "offload/disk/disk_engine.h"
#include "offload/kv/kv_layout.h"
#include "offload/kv/kv_tables.h"

namespace sluice::offload {

class KvDisk {
 public:
  /// Makes the file "kv-cache" in `folder`. All references must outlive it.
  KvDisk(kernels::Engine& engine, const KvLayout& layout, const KvMemory& memory, DiskEngine& disk,
         const RunFolder& folder, Trace* trace);
  ~KvDisk();  // waits for requests in flight
  KvDisk(const KvDisk&) = delete;
  KvDisk& operator=(const KvDisk&) = delete;

  /// Starts to read the full pages in sight of the step's disk sequences into read buffer `ring`,
  /// which must be free; neighbours in the file are one request. False: there is nothing to read.
  /// Waits for writes of the same pages.
  bool start_read(int ring, const KvStep& step, std::int32_t layer);
  /// True when the pages of the last start_read() are there, or a read failed.
  bool read_done(int ring) const;
  /// Blocks until they are there. Throws IoError.
  void finish_read(int ring);
  /// Puts the copies of what start_read() read to staging buffer `target` on
  /// Lane::host_to_device.
  void copy_read(int ring, const KvStep& step, std::int32_t layer, std::byte* target);
  /// Puts the copies of the partial pages there: they need no read.
  void copy_tails(const KvStep& step, std::int32_t layer, std::byte* target);

  /// Puts the appending of the step's new tokens on Lane::host_compute; keys and values: host
  /// [rows, kv_heads x head_dim], there when the lane gets to them. Returns when they were
  /// appended.
  Event append(const KvStep& step, std::int32_t layer, TensorView keys, TensorView values);

  /// Hands pages whose bytes are there to the disk. Never blocks.
  void poll();

 private:
  struct WriteBuffer {
    std::int32_t layer = -1;
    std::int32_t pass = -1;
    Event filled;
    bool pending = false;  // filled or about to be, not yet handed to the disk
    bool in_flight = false;
    std::vector<std::int32_t> pages;  // of the file, by page of the buffer
    std::vector<char> holds;          // by page of the file: whether it is one of them
    IoGroup group;
  };

  /// File pages of what a streamed sequence has there in sight; empty for those of other tiers.
  std::span<const std::int32_t> full_pages(const KvReachStep& reach,
                                           const KvStreamed& sequence) const;
  void issue(std::size_t ring);
  void finish(std::size_t ring);
  /// Waits until what was put together for these pages of `layer` is in the file.
  void settle(std::span<const std::int32_t> pages, std::int32_t layer);
  std::byte* tail(std::int32_t place, std::int32_t layer) const;

  kernels::Engine& engine_;
  const KvLayout& layout_;
  const KvMemory& memory_;
  DiskEngine& disk_;
  Trace* trace_;
  FileId file_;
  std::array<IoGroup, 2> reads_;
  std::array<WriteBuffer, 2> writes_;
  std::size_t next_write_ = 0;
};

/// Puts the copy of `pages` pages between two places of different page strides on a lane.
void copy_pages(Backend& backend, Lane lane, std::byte* target, std::size_t target_stride,
                const std::byte* source, std::size_t source_stride, std::size_t page_bytes,
                std::size_t pages);

}  // namespace sluice::offload
