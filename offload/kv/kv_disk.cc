#include "offload/kv/kv_disk.h"

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::offload {

void copy_pages(Backend& backend, Lane lane, std::byte* target, std::size_t target_stride,
                const std::byte* source, std::size_t source_stride, std::size_t page_bytes,
                std::size_t pages) {
  if (pages == 0) return;
  if (target_stride == page_bytes && source_stride == page_bytes) {
    backend.copy(lane, target, source, pages * page_bytes);
    return;
  }
  for (std::size_t i = 0; i < pages; ++i) {
    backend.copy(lane, target + i * target_stride, source + i * source_stride, page_bytes);
  }
}

KvDisk::KvDisk(kernels::Engine& engine, const KvLayout& layout, const KvMemory& memory,
               DiskEngine& disk, const RunFolder& folder, Trace* trace)
    : engine_(engine),
      layout_(layout),
      memory_(memory),
      disk_(disk),
      trace_(trace),
      file_(disk.create(folder.path() / "kv-cache", layout.file_bytes())) {
  for (WriteBuffer& buffer : writes_) {
    buffer.pages.reserve(static_cast<std::size_t>(layout.completed_pages));
    buffer.holds.resize(static_cast<std::size_t>(layout.pool_of(Tier::disk)), 0);
  }
}

KvDisk::~KvDisk() {
  // The groups and buffers must outlive their requests; what failed was thrown, or nobody needs it.
  const auto drain = [](IoGroup& group) {
    try {
      group.wait();
    } catch (const Error&) {
    }
  };
  for (IoGroup& group : reads_) drain(group);
  for (WriteBuffer& buffer : writes_) drain(buffer.group);
}

std::byte* KvDisk::tail(std::int32_t place, std::int32_t layer) const {
  const std::int64_t index = std::int64_t{layer} * layout_.slots_in(Tier::disk) + place;
  return memory_.host_tails + static_cast<std::size_t>(index) * layout_.page_bytes;
}

std::span<const std::int32_t> KvDisk::full_pages(const KvReachStep& reach,
                                                 const KvStreamed& sequence) const {
  if (sequence.tier != Tier::disk) return {};
  const std::int32_t full = sequence.history / layout_.shape.page_tokens - sequence.skipped;
  return std::span(reach.homes)
      .subspan(static_cast<std::size_t>(sequence.first_page), static_cast<std::size_t>(full));
}

bool KvDisk::start_read(int ring, const KvStep& step, std::int32_t layer) {
  bool any = false;
  std::byte* target = memory_.read_ring[ring];
  const KvReachStep& reach = step.of(layout_, layer);
  for (const KvStreamed& sequence : reach.streamed_sequences) {
    const std::span<const std::int32_t> pages = full_pages(reach, sequence);
    if (pages.empty()) continue;
    settle(pages, layer);
    for_each_run(pages, [&](std::size_t index, std::size_t count) {
      disk_.read(file_, layout_.file_offset(layer, pages[index]), count * layout_.file_page_bytes,
                 target + index * layout_.file_page_bytes, reads_[static_cast<std::size_t>(ring)]);
    });
    target += pages.size() * layout_.file_page_bytes;
    any = true;
  }
  return any;
}

bool KvDisk::read_done(int ring) const {
  return reads_[static_cast<std::size_t>(ring)].pending() == 0;
}

void KvDisk::finish_read(int ring) { reads_[static_cast<std::size_t>(ring)].wait(); }

void KvDisk::copy_read(int ring, const KvStep& step, std::int32_t layer, std::byte* target) {
  const std::byte* source = memory_.read_ring[ring];
  const KvReachStep& reach = step.of(layout_, layer);
  for (const KvStreamed& sequence : reach.streamed_sequences) {
    const std::size_t pages = full_pages(reach, sequence).size();
    copy_pages(*engine_.backend, Lane::host_to_device,
               target + static_cast<std::size_t>(sequence.first_page) * layout_.page_bytes,
               layout_.page_bytes, source, layout_.file_page_bytes, layout_.page_bytes, pages);
    source += pages * layout_.file_page_bytes;
  }
}

void KvDisk::copy_tails(const KvStep& step, std::int32_t layer, std::byte* target) {
  for (const KvStreamed& sequence : step.of(layout_, layer).streamed_sequences) {
    const std::int32_t page_tokens = layout_.shape.page_tokens;
    if (sequence.tier != Tier::disk || sequence.history % page_tokens == 0) continue;
    const auto page = static_cast<std::size_t>(sequence.first_page +
                                               sequence.history / page_tokens - sequence.skipped);
    engine_.backend->copy(Lane::host_to_device, target + page * layout_.page_bytes,
                          tail(sequence.place, layer), layout_.page_bytes);
  }
}

Event KvDisk::append(const KvStep& step, std::int32_t layer, TensorView keys, TensorView values) {
  Backend& backend = *engine_.backend;
  const std::vector<std::int32_t>& homes = step.of(layout_, layer).completed_homes;
  if (!homes.empty()) {
    // A new sequence, or a later token, may rewrite pages that are still being written.
    settle(homes, layer);
    const std::size_t ring = next_write_;
    next_write_ = 1 - next_write_;
    finish(ring);
    WriteBuffer& buffer = writes_[ring];
    std::byte* pages = memory_.write_ring[ring];
    for (const KvBegunPage& begun : step.begun_pages) {
      const auto page = static_cast<std::size_t>(begun.write_page);
      backend.copy(Lane::host_compute, pages + page * layout_.file_page_bytes,
                   tail(begun.place, layer), layout_.page_bytes);
    }
    engine_.host_ops->append_kv(layout_.pages_at(pages, layout_.file_page_bytes),
                                step.completed.batch(), keys, values);
    buffer.layer = layer;
    buffer.pass = step.pass;
    buffer.pages.assign(homes.begin(), homes.end());
    for (const std::int32_t page : buffer.pages) buffer.holds[static_cast<std::size_t>(page)] = 1;
    buffer.filled = backend.record(Lane::host_compute);
    buffer.pending = true;
  }
  // After the copies above: the tail they read is the one written now.
  if (!step.tails.empty()) {
    engine_.host_ops->append_kv(layout_.pages_at(tail(0, layer), layout_.page_bytes),
                                step.tails.batch(), keys, values);
  }
  return backend.record(Lane::host_compute);
}

void KvDisk::issue(std::size_t ring) {
  WriteBuffer& buffer = writes_[ring];
  buffer.pending = false;
  buffer.in_flight = true;
  for_each_run(buffer.pages, [&](std::size_t index, std::size_t count) {
    disk_.write(file_, layout_.file_offset(buffer.layer, buffer.pages[index]),
                count * layout_.file_page_bytes,
                memory_.write_ring[ring] + index * layout_.file_page_bytes, buffer.group);
  });
}

void KvDisk::finish(std::size_t ring) {
  WriteBuffer& buffer = writes_[ring];
  if (!buffer.pending && !buffer.in_flight) return;
  const ScopedSpan span(trace_, Activity::wait_kv, buffer.pass, buffer.layer);
  if (buffer.pending) {
    engine_.backend->synchronize(buffer.filled);
    issue(ring);
  }
  buffer.in_flight = false;
  for (const std::int32_t page : buffer.pages) buffer.holds[static_cast<std::size_t>(page)] = 0;
  buffer.group.wait();
}

void KvDisk::settle(std::span<const std::int32_t> pages, std::int32_t layer) {
  for (std::size_t ring = 0; ring < writes_.size(); ++ring) {
    const WriteBuffer& buffer = writes_[ring];
    if (buffer.layer != layer || (!buffer.pending && !buffer.in_flight)) continue;
    const bool touches = std::any_of(pages.begin(), pages.end(), [&buffer](std::int32_t page) {
      return buffer.holds[static_cast<std::size_t>(page)] != 0;
    });
    if (touches) finish(ring);
  }
}

void KvDisk::poll() {
  for (std::size_t ring = 0; ring < writes_.size(); ++ring) {
    if (writes_[ring].pending && engine_.backend->done(writes_[ring].filled)) issue(ring);
  }
}

}  // namespace sluice::offload
