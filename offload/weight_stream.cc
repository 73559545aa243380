// The ring. Item n is the n-th streamed layer of the endless sequence; it uses slot n % slots and
// the staging buffer of the same number. A slot goes round: reads issued -> slot free (released by
// the user of item n - slots, and that event done) -> copies enqueued, event recorded, item
// published
// -> leased -> released. Reads of later items are issued as soon as their staging buffer was copied
// from, so that the disk has work while the slots are in use.
#include "offload/weight_stream.h"

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/device/error.h"
#include "offload/disk_engine.h"
#include "offload/resident_weights.h"

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
        slots_(static_cast<std::size_t>(options.slots)) {
    assert(options.slots >= 1);
    const WeightSizes sizes = weight_sizes(layers_, slots_.size());
    std::byte* staging = nullptr;
    if (const std::uint64_t block = sizes.staging_block(); block > 0) {
      staging = host.take(block, "weight staging", 4096);
    }
    resident_ = load_resident(backend, source, layers_, device, host, staging, sizes.load, progress,
                              progress_context);
    staging_ = staging;
    staging_ring_ = sizes.staging;
    const std::uint64_t bytes = sizes.slots.total();
    make_views(sizes.slots, bytes > 0 ? device.take(bytes, "weight slots") : nullptr);
    if (!streamed_.empty()) thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
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

  void release(const Lease& lease) {
    if (lease.slot_ < 0) return;
    Slot& slot = slots_[static_cast<std::size_t>(lease.slot_)];
    const Event released = backend_.record(Lane::compute);
    {
      const std::lock_guard lock(mutex_);
      assert(slot.in_use);
      slot.released = released;
      slot.in_use = false;
    }
    changed_.notify_all();
  }

  std::int32_t layer_count() const { return static_cast<std::int32_t>(layers_.size()); }

 private:
  struct Slot {
    IoGroup reads;  // into staging
    Event copied;   // of the item that was put here last; set before it is published
    Event released;
    bool in_use = false;  // from enqueuing to release(); guarded by mutex_
  };

  // Every layer's tensors for every slot they may be in, so that a lease is a pointer.
  void make_views(const RingLayout& ring, std::byte* slots) {
    slot_data_.resize(layers_.size());
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const LayerPlacement& layer = layers_[l];
      const bool streams = layer.slot_bytes() > 0;
      if (streams) streamed_.push_back(l);
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
          if (view.streamed.rows == 0) continue;
          view.streamed.data = data;
          data += streamed_bytes(tensor);
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

  // -------------------------------------------------------------------------- the ring's own
  // thread

  void run() {
    try {
      for (std::uint64_t item = 0;; ++item) {
        if (issued_ == item) issue(item);
        issue_ahead(item);
        if (!await_free(item)) return;
        issue_ahead(item);
        enqueue(item);
        publish();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      failure_ = std::current_exception();
    }
    changed_.notify_all();
  }

  Slot& slot_of(std::uint64_t item) { return slots_[item % slots_.size()]; }
  const LayerPlacement& layer_of(std::uint64_t item) const {
    return layers_[streamed_[item % streamed_.size()]];
  }
  std::byte* data_of(std::uint64_t item) const {
    return slot_data_[streamed_[item % streamed_.size()]][item % slots_.size()];
  }
  std::byte* staging_of(std::uint64_t item) const {
    return staging_ + staging_ring_.offset(item % slots_.size(), staging_part(layer_of(item)));
  }

  // All disk rows of a layer at once, for the disk to have a queue.
  void issue(std::uint64_t item) {
    Slot& slot = slot_of(item);
    backend_.synchronize(slot.copied);  // the staging buffer's last content is on the device
    std::byte* target = staging_of(item);
    issued_ = item + 1;
    for (const TensorPlacement& tensor : layer_of(item).tensors) {
      const std::uint64_t bytes = tensor.bytes(Tier::disk);
      if (bytes == 0) continue;
      source_.read(tensor.info, tensor.bytes(Tier::device) + tensor.bytes(Tier::host), bytes,
                   target, slot.reads);
      target += arena_bytes(bytes);
    }
  }

  // What can be issued without waiting, before item's own copies are enqueued.
  void issue_ahead(std::uint64_t item) {
    while (issued_ < item + slots_.size() && backend_.done(slot_of(issued_).copied)) {
      issue(issued_);
    }
  }

  // False: the stream is being destroyed.
  bool await_free(std::uint64_t item) {
    Slot& slot = slot_of(item);
    {
      std::unique_lock lock(mutex_);
      while (slot.in_use && !stopping_) {
        if (issued_ < item + slots_.size()) {
          // Nothing better to do than to fill every staging buffer.
          lock.unlock();
          issue(issued_);
          lock.lock();
        } else {
          changed_.wait(lock);
        }
      }
      if (stopping_) return false;
      slot.in_use = true;
    }
    // Here and not by the lane: copies of cache and activations that come after this layer's would
    // have to stand behind it until the computing has got there.
    backend_.synchronize(slot.released);
    return true;
  }

  void enqueue(std::uint64_t item) {
    Slot& slot = slot_of(item);
    const LayerPlacement& layer = layer_of(item);
    const ResidentLayer& resident = resident_[streamed_[item % streamed_.size()]];
    std::byte* target = data_of(item);
    for (std::size_t t = 0; t < layer.tensors.size(); ++t) {
      const TensorView& rows = resident[t].host;
      if (rows.rows > 0) backend_.copy(Lane::host_to_device, target, rows.data, rows.bytes());
      target += streamed_bytes(layer.tensors[t]);
    }
    slot.reads.wait();
    target = data_of(item);
    const std::byte* staged = staging_of(item);
    for (const TensorPlacement& tensor : layer.tensors) {
      const std::uint64_t bytes = tensor.bytes(Tier::disk);
      if (bytes > 0) {
        backend_.copy(Lane::host_to_device, target + tensor.bytes(Tier::host), staged, bytes);
        staged += arena_bytes(bytes);
      }
      target += streamed_bytes(tensor);
    }
    slot.copied = backend_.record(Lane::host_to_device);
  }

  static std::uint64_t streamed_bytes(const TensorPlacement& tensor) {
    return arena_bytes(tensor.bytes(Tier::host) + tensor.bytes(Tier::disk));
  }

  void publish() {
    {
      const std::lock_guard lock(mutex_);
      ++published_;
    }
    changed_.notify_all();
  }

  Backend& backend_;
  WeightSource& source_;
  std::vector<LayerPlacement> layers_;
  Trace* trace_;
  std::vector<Slot> slots_;
  std::byte* staging_ = nullptr;  // host
  RingLayout staging_ring_;
  std::vector<ResidentLayer> resident_;
  std::vector<std::vector<std::vector<SplitMatrix>>> views_;  // by layer, slot, tensor
  std::vector<std::vector<std::byte*>> slot_data_;            // by layer and slot, on the device
  std::vector<std::size_t> streamed_;                         // layers with streamed bytes

  // The user's thread.
  std::int32_t next_layer_ = 0;
  std::uint64_t next_item_ = 0;

  // The ring's thread.
  std::uint64_t issued_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t published_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;
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

void WeightStream::release(const Lease& lease) { impl_->release(lease); }

std::int32_t WeightStream::layer_count() const { return impl_->layer_count(); }

}  // namespace sluice::offload
