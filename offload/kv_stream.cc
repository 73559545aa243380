#include "offload/kv_stream.h"

#include <fmt/format.h>

#include "kernels/device/error.h"

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
  if (step.streamed_sequences.empty() || find(step, layer) != nullptr) return;
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
  if (buffer.used.ticket != 0) backend_.wait(Lane::host_to_device, buffer.used);
  copy_host_pages(step, layer, target);
  if (disk_ != nullptr) disk_->copy_tails(step, layer, target);
  if (!buffer.reading) buffer.fetched = backend_.record(Lane::host_to_device);
}

void KvStream::copy_host_pages(const KvStep& step, std::int32_t layer, std::byte* target) {
  Event last;
  const auto slot_bytes = static_cast<std::size_t>(layout_.pages_per_slot) * layout_.page_bytes;
  for (const KvStreamed& sequence : step.streamed_sequences) {
    // Sequences of a GPU batch were mostly appended together: one wait for all of them.
    const Event event = appended_.at(sequence.slot, layer);
    if (sequence.history > 0 && event.ticket != 0 && event.ticket != last.ticket) {
      backend_.wait(Lane::host_to_device, event);
      last = event;
    }
    if (sequence.tier == Tier::host && sequence.history > 0) {
      const std::int32_t pages = (sequence.history - 1) / layout_.shape.page_tokens + 1;
      const auto first =
          static_cast<std::size_t>(layout_.first_page(layer, sequence.place, Tier::host));
      copy_pages(backend_, Lane::host_to_device, target, layout_.page_bytes,
                 memory_.host_pages + first * layout_.page_bytes, layout_.page_bytes,
                 layout_.page_bytes, pages);
    }
    target += slot_bytes;
  }
}

void KvStream::copy_after_read(Buffer& buffer) {
  const std::int32_t ring = index_of(buffer);
  disk_->finish_read(ring);
  disk_->copy_read(ring, *buffer.step, memory_.device_ring[ring]);
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
  if (buffer.reading) {
    const ScopedSpan span(trace_, Activity::wait_kv, step.pass, layer);
    copy_after_read(buffer);
  }
  backend_.wait(Lane::compute, buffer.fetched);
  return memory_.device_ring[index_of(buffer)];
}

void KvStream::close(const KvStep& step, std::int32_t layer) {
  Buffer& buffer = *find(step, layer);
  buffer.used = backend_.record(Lane::compute);
  buffer.step = nullptr;
}

}  // namespace sluice::offload
