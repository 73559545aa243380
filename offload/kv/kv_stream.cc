#include "offload/kv/kv_stream.h"

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "kernels/device/stall_reason.h"

namespace sluice::offload {

KvStream::Buffer* KvStream::find(const KvStep& step, std::int32_t layer) {
  for (Buffer& buffer : buffers_) {
    if (buffer.step == &step && buffer.layer == layer) return &buffer;
  }
  return nullptr;
}

std::int32_t KvStream::index_of(const Buffer& buffer) const {
  return static_cast<std::int32_t>(&buffer - buffers_.data());
}

void KvStream::fetch(const KvStep& step, std::int32_t layer) {
  const KvReachStep& reach = step.of(layout_, layer);
  if (reach.streamed_sequences.empty() || find(step, layer) != nullptr) return;
  if (buffers_[next_].step != nullptr) next_ = 1 - next_;
  Buffer& buffer = buffers_[next_];
  if (buffer.step != nullptr) {
    throw Error(ExitStatus::failure,
                fmt::format("KV cache: layer {} of pass {} was fetched while two earlier fetches "
                            "were not attended; fetch at most one step ahead (a bug of sluice)",
                            layer, step.pass));
  }
  const std::int32_t ring = index_of(buffer);
  next_ = 1 - next_;
  std::byte* target = memory_.device_ring[ring];
  if (disk_ != nullptr) {
    if (!backend_.done(buffer.fetched)) {  // the read buffer is still being copied from
      const ScopedSpan span(trace_, Activity::wait_kv, step.pass, layer);
      backend_.synchronize(buffer.fetched);
    }
    buffer.reading = disk_->start_read(ring, step, layer);
  }
  buffer.step = &step;
  buffer.layer = layer;
  buffer.fetched = {};
  if (!reach.has_history()) return;  // Lane::compute need not wait for copies of others
  if (buffer.used.ticket != 0) backend_.wait(Lane::host_to_device, buffer.used);
  await_appended(step, layer);
  copy_host_pages(step, layer, target);
  if (disk_ != nullptr) disk_->copy_tails(step, layer, target);
  if (!buffer.reading) {
    buffer.fetched = backend_.record(Lane::host_to_device);
  } else if (!overlaps_) {
    await_read(buffer);
  }
}

void KvStream::await_appended(const KvStep& step, std::int32_t layer) {
  Event last;
  for (const KvStreamed& sequence : step.of(layout_, layer).streamed_sequences) {
    if (sequence.history == 0) continue;
    // Sequences of a GPU batch were mostly appended together: one wait for all of them.
    const Event event = appended_.at(sequence.slot, layer);
    if (event.ticket == 0 || event.ticket == last.ticket) continue;
    backend_.wait(Lane::host_to_device, event);
    last = event;
  }
}

void KvStream::copy_host_pages(const KvStep& step, std::int32_t layer, std::byte* target) {
  const KvReachStep& reach = step.of(layout_, layer);
  for (const KvStreamed& sequence : reach.streamed_sequences) {
    if (sequence.history == 0 || sequence.tier != Tier::host) continue;
    const auto first = static_cast<std::size_t>(sequence.first_page);
    const auto pages =
        static_cast<std::size_t>(layout_.pages_for(sequence.history) - sequence.skipped);
    const auto homes = std::span(reach.homes).subspan(first, pages);
    if (sequence.keys_only) {
      for (std::size_t i = 0; i < pages; ++i) {
        const auto home = static_cast<std::size_t>(layout_.page_index(layer, homes[i], Tier::host));
        backend_.copy(Lane::host_to_device, target + (first + i) * layout_.page_bytes,
                      memory_.host_pages + home * layout_.page_bytes, layout_.page_bytes / 2);
      }
      continue;
    }
    for_each_run(homes, [&](std::size_t index, std::size_t count) {
      const auto home =
          static_cast<std::size_t>(layout_.page_index(layer, homes[index], Tier::host));
      backend_.copy(Lane::host_to_device, target + (first + index) * layout_.page_bytes,
                    memory_.host_pages + home * layout_.page_bytes, count * layout_.page_bytes);
    });
  }
}

void KvStream::await_read(Buffer& buffer) {
  const ScopedSpan span(trace_, Activity::wait_kv, buffer.step->pass, buffer.layer);
  copy_after_read(buffer);
}

void KvStream::copy_after_read(Buffer& buffer) {
  const std::int32_t ring = index_of(buffer);
  disk_->finish_read(ring);
  disk_->copy_read(ring, *buffer.step, buffer.layer, memory_.device_ring[ring]);
  buffer.fetched = backend_.record(Lane::host_to_device);
  buffer.reading = false;
}

void KvStream::poll() {
  for (Buffer& buffer : buffers_) {
    if (buffer.reading && disk_->read_done(index_of(buffer))) copy_after_read(buffer);
  }
}

std::byte* KvStream::open(const KvStep& step, std::int32_t layer) {
  fetch(step, layer);
  Buffer& buffer = *find(step, layer);
  if (buffer.reading) await_read(buffer);
  if (buffer.fetched.ticket != 0) compute_waits(backend_, buffer.fetched, Activity::stall_kv);
  return memory_.device_ring[index_of(buffer)];
}

void KvStream::close(const KvStep& step, std::int32_t layer) {
  Buffer& buffer = *find(step, layer);
  buffer.used = backend_.record(Lane::compute);
  buffer.step = nullptr;
}

}  // namespace sluice::offload
