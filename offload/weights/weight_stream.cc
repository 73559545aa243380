// The ring. Item n is the n-th streamed layer of the endless sequence; it uses slot n % slots. Two
// threads fill it.
//
// The reader reads the chunks of all items, one after the other, each into the next staging buffer.
// It waits for nothing but that the buffer's last content is on the device, so that the disk has
// all staging to fill whatever the slots do.
//
// The mover waits until an item's slot is free (released by the user of item n - slots, and that
// event done), enqueues the copies of the host rows, then those of each chunk as it arrives,
// records an event and publishes the item.
#include "offload/weights/weight_stream.h"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/resident_weights.h"
#include "offload/weights/weight_chunks.h"

namespace sluice::offload {

void WeightStream::plan(const std::vector<LayerPlacement>& layers,
                        const WeightStreamOptions& options, MemoryPlan& plan) {
  const WeightSizes sizes = weight_sizes(layers, static_cast<std::size_t>(options.slots));
  const auto reserve = [&plan](Tier tier, const char* purpose, std::uint64_t bytes) {
    if (bytes > 0) plan.reserve(tier, purpose, bytes);
  };
  reserve(Tier::device, "weights", sizes.device);
  reserve(Tier::device, "weight slots", arena_bytes(sizes.slots.total()));
  reserve(Tier::host, "weights", sizes.host);
  reserve(Tier::disk, "weights", sizes.disk);
  const std::uint64_t staging = sizes.staging_block();
  if (staging > 0) reserve(Tier::host, "weight staging", arena_bytes(staging, 4096));
}

class WeightStream::Impl {
 public:
  Impl(Backend& backend, WeightSource& source, std::vector<LayerPlacement> layers,
       const WeightStreamOptions& options, Arena& device, Arena& host, Progress progress,
       void* progress_context)
      : backend_(backend),
        source_(source),
        layers_(std::move(layers)),
        trace_(options.trace),
        overlap_(options.overlap),
        slots_(static_cast<std::size_t>(options.slots)) {
    assert(options.slots >= 1);
    const WeightSizes sizes = weight_sizes(layers_, slots_.size());
    disk_bytes_ = sizes.disk;
    std::byte* staging = nullptr;
    if (const std::uint64_t block = sizes.staging_block(); block > 0) {
      staging = host.take(block, "weight staging", 4096);
    }
    resident_ = load_resident(backend, source, layers_, device, host, staging, sizes.load, progress,
                              progress_context);
    make_staging(sizes.staging, staging);
    const std::uint64_t bytes = sizes.slots.total();
    make_views(sizes.slots, bytes > 0 ? device.take(bytes, "weight slots") : nullptr);
    start();
  }

  ~Impl() {
    stop();
    // The arenas may go once this returns: no copy may still write a slot, nothing still read one.
    for (const Lane lane : {Lane::host_to_device, Lane::compute}) {
      try {
        backend_.synchronize(backend_.record(lane));
      } catch (const Error&) {
        // A failed device does nothing any more; whoever uses it has been told.
      }
    }
  }

  Lease acquire(std::int32_t layer, std::int32_t pass) {
    assert(layer == next_layer_);
    Lease lease;
    lease.layer_ = layer;
    const auto index = static_cast<std::size_t>(layer);
    if (layers_[index].slot_bytes() == 0) {
      lease.tensors_ = &views_[index][0];
    } else {
      const auto slot = static_cast<std::size_t>(next_item_ % slots_.size());
      await_published(next_item_, layer, pass);
      backend_.wait(Lane::compute, slots_[slot].copied.as(Activity::stall_weights));
      lease.tensors_ = &views_[index][slot];
      lease.slot_ = static_cast<std::int32_t>(slot);
      ++next_item_;
    }
    next_layer_ = (layer + 1) % static_cast<std::int32_t>(layers_.size());
    return lease;
  }

  Lease shape_of(std::int32_t layer) const {
    Lease lease;
    lease.layer_ = layer;
    lease.tensors_ = &views_[static_cast<std::size_t>(layer)][0];
    return lease;
  }

  void release(const Lease& lease) {
    if (lease.slot_ < 0) return;
    Slot& slot = slots_[static_cast<std::size_t>(lease.slot_)];
    const Event released = backend_.record(Lane::compute);
    {
      const std::lock_guard lock(mutex_);
      assert(slot.in_use);
      slot.released = released;
      slot.in_use = false;
      last_released_ = released;
      ++released_;
    }
    changed_.notify_all();
  }

  std::int32_t layer_count() const { return static_cast<std::int32_t>(layers_.size()); }
  std::uint64_t disk_bytes() const { return disk_bytes_; }

 private:
  struct Slot {
    Event copied;  // of the item that was put here last; set before it is published
    Event released;
    bool in_use = false;  // from enqueuing to release(); guarded by mutex_
  };
  struct Staging {
    std::byte* data = nullptr;
    IoGroup reads;
    Event copied;  // its last content is on the device; set before it is counted in moved_
  };

  void make_staging(const StagingSizes& sizes, std::byte* memory) {
    stagings_ = std::vector<Staging>(sizes.count);
    for (std::size_t i = 0; i < stagings_.size(); ++i) stagings_[i].data = memory + i * sizes.bytes;
    if (sizes.count == 0) return;
    for (const LayerPlacement& layer : layers_) {
      chunks_.push_back(weight_chunks(layer, source_, sizes.bytes));
    }
  }

  void start() {
    if (streamed_.empty()) return;
    try {
      threads_.emplace_back([this] { work(&Impl::move_items); });
      if (!stagings_.empty()) threads_.emplace_back([this] { work(&Impl::read_items); });
    } catch (...) {
      stop();
      throw;
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Every layer's tensors for every slot they may be in, so that a lease is a pointer.
  void make_views(const RingLayout& ring, std::byte* slots) {
    slot_data_.resize(layers_.size());
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const LayerPlacement& layer = layers_[l];
      const bool streams = layer.slot_bytes() > 0;
      if (streams) streamed_.push_back(l);
      const std::vector<std::size_t>& offsets = slot_offsets_.emplace_back(slot_offsets(layer));
      auto& of_slots = views_.emplace_back(streams ? slots_.size() : 1);
      for (std::size_t s = 0; s < of_slots.size(); ++s) {
        std::byte* data = streams ? slots + ring.offset(s, layer.slot_bytes()) : nullptr;
        slot_data_[l].push_back(data);
        for (std::size_t t = 0; t < layer.tensors.size(); ++t) {
          const TensorPlacement& tensor = layer.tensors[t];
          SplitMatrix& view = of_slots[s].emplace_back();
          if (tensor.info.rows == 0) continue;
          const TensorView& resident = resident_[l][t].device;
          view.resident = {resident.data, tensor.info.dtype, resident.rows, tensor.info.columns};
          view.streamed = {nullptr, tensor.info.dtype, tensor.info.rows - resident.rows,
                           tensor.info.columns};
          if (view.streamed.rows > 0) view.streamed.data = data + offsets[t];
        }
      }
    }
  }

  void await_published(std::uint64_t item, std::int32_t layer, std::int32_t pass) {
    std::unique_lock lock(mutex_);
    if (published_ <= item && !failure_) {
      const ScopedSpan span(trace_, Activity::wait_weights, pass, layer);
      changed_.wait(lock, [&] { return published_ > item || failure_; });
    }
    if (published_ <= item) std::rethrow_exception(failure_);
  }

  // ------------------------------------------------------------------------ the ring's own threads

  // Runs one of the two until the stream is destroyed or either has failed.
  void work(void (Impl::*items)()) {
    try {
      (this->*items)();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    changed_.notify_all();
  }

  std::size_t layer_of(std::uint64_t item) const { return streamed_[item % streamed_.size()]; }
  Staging& staging_of(std::uint64_t chunk) { return stagings_[chunk % stagings_.size()]; }

  // Blocks until `condition`; false: there is nothing more to do.
  template <typename Condition>
  bool await(Condition condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || failure_ || condition(); });
    return !stopping_ && !failure_;
  }

  // Without overlap an item's turn comes when the one before is over.
  bool await_turn(std::uint64_t item) {
    if (overlap_) return true;
    if (!await([&] { return released_ >= item; })) return false;
    Event last;
    {
      const std::lock_guard lock(mutex_);
      last = last_released_;
    }
    backend_.synchronize(last);
    return true;
  }

  void read_items() {
    std::uint64_t chunk = 0;
    for (std::uint64_t item = 0;; ++item) {
      if (!await_turn(item)) return;
      for (const WeightChunk& next : chunks_[layer_of(item)]) {
        if (!await([&] { return moved_ + stagings_.size() > chunk; })) return;
        Staging& staging = staging_of(chunk++);
        backend_.synchronize(staging.copied);
        read_chunk(next, source_, staging.data, staging.reads);
        count(issued_);
      }
    }
  }

  void move_items() {
    std::uint64_t chunk = 0;
    for (std::uint64_t item = 0;; ++item) {
      Slot& slot = slots_[item % slots_.size()];
      if (!await_turn(item) || !await([&] { return !slot.in_use; })) return;
      // Here and not by the lane: copies of cache and activations that come after this layer's
      // would have to stand behind it until the computing has got there.
      backend_.synchronize(slot.released);
      std::byte* target = slot_data_[layer_of(item)][item % slots_.size()];
      move_host_rows(layer_of(item), target);
      if (!stagings_.empty()) {
        for (const WeightChunk& next : chunks_[layer_of(item)]) {
          if (!await([&] { return issued_ > chunk; })) return;
          move_chunk(next, staging_of(chunk++), target);
          count(moved_);
        }
      }
      slot.copied = backend_.record(Lane::host_to_device);
      {
        const std::lock_guard lock(mutex_);
        slot.in_use = true;
        ++published_;
      }
      changed_.notify_all();
    }
  }

  void move_host_rows(std::size_t layer, std::byte* target) {
    const std::vector<std::size_t>& offsets = slot_offsets_[layer];
    for (std::size_t t = 0; t < resident_[layer].size(); ++t) {
      const TensorView& rows = resident_[layer][t].host;
      if (rows.rows == 0) continue;
      backend_.copy(Lane::host_to_device, target + offsets[t], rows.data, rows.bytes());
    }
  }

  void move_chunk(const WeightChunk& chunk, Staging& staging, std::byte* target) {
    staging.reads.wait();
    for (const WeightChunk::Copy& copy : chunk.copies) {
      backend_.copy(Lane::host_to_device, target + copy.target, staging.data + copy.source,
                    copy.bytes);
    }
    staging.copied = backend_.record(Lane::host_to_device);
  }

  void count(std::uint64_t& chunks) {
    {
      const std::lock_guard lock(mutex_);
      ++chunks;
    }
    changed_.notify_all();
  }

  Backend& backend_;
  WeightSource& source_;
  std::vector<LayerPlacement> layers_;
  Trace* trace_;
  bool overlap_;
  std::uint64_t disk_bytes_ = 0;
  std::vector<Slot> slots_;
  std::vector<Staging> stagings_;  // in the host
  std::vector<ResidentLayer> resident_;
  std::vector<std::vector<WeightChunk>> chunks_;              // by layer
  std::vector<std::vector<std::vector<SplitMatrix>>> views_;  // by layer, slot, tensor
  std::vector<std::vector<std::byte*>> slot_data_;            // by layer and slot, on the device
  std::vector<std::vector<std::size_t>> slot_offsets_;        // by layer and tensor
  std::vector<std::size_t> streamed_;                         // layers with streamed bytes

  // The user's thread.
  std::int32_t next_layer_ = 0;
  std::uint64_t next_item_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t issued_ = 0;  // chunks whose reads are under way or over
  std::uint64_t moved_ = 0;   // chunks whose copies are enqueued
  std::uint64_t published_ = 0;
  std::uint64_t released_ = 0;  // items
  Event last_released_;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

WeightStream::WeightStream(Backend& backend, WeightSource& source,
                           std::vector<LayerPlacement> layers, const WeightStreamOptions& options,
                           Arena& device, Arena& host,
                           void (*progress)(std::uint64_t bytes, void* context),
                           void* progress_context)
    : impl_(std::make_unique<Impl>(backend, source, std::move(layers), options, device, host,
                                   progress, progress_context)) {}

WeightStream::~WeightStream() = default;

WeightStream::Lease WeightStream::acquire(std::int32_t layer, std::int32_t pass) {
  return impl_->acquire(layer, pass);
}

WeightStream::Lease WeightStream::shape_of(std::int32_t layer) const {
  return impl_->shape_of(layer);
}

void WeightStream::release(const Lease& lease) { impl_->release(lease); }

std::int32_t WeightStream::layer_count() const { return impl_->layer_count(); }

std::uint64_t WeightStream::disk_bytes() const { return impl_->disk_bytes(); }

}  // namespace sluice::offload
