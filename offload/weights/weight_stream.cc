// Two threads fill the ring (weight_ring.h says where each item lies). Item n is the n-th lease
// that moves bytes.
//
// The reader reads the chunks of all items, one after the other, each into the next staging buffer.
// It waits only until the buffer's last content is on the device. So the disk has all staging to
// fill, whatever the slots do.
//
// The mover waits until an item's place is free: the leases that had it are released, and the
// events they were released with are done. Then it enqueues the copies of the host rows and those
// of each chunk as it arrives, records an event and publishes the item.
#include "offload/weights/weight_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "kernels/device/error.h"
#include "kernels/device/stall_reason.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/resident_weights.h"
#include "offload/weights/weight_chunks.h"
#include "offload/weights/weight_ring.h"

namespace sluice::offload {

void WeightStream::plan(const std::vector<GroupPlacement>& groups,
                        const WeightStreamOptions& options, MemoryPlan& plan) {
  const WeightRing ring(groups, options.order, static_cast<std::size_t>(options.slots));
  const WeightSizes sizes = weight_sizes(groups, ring);
  const auto reserve = [&plan](Tier tier, const char* purpose, std::uint64_t bytes) {
    if (bytes > 0) plan.reserve(tier, purpose, bytes);
  };
  reserve(Tier::device, "weights", sizes.device);
  reserve(Tier::device, "weight slots", arena_bytes(sizes.slots));
  reserve(Tier::host, "weights", sizes.host);
  reserve(Tier::disk, "weights", sizes.disk);
  const std::uint64_t staging = sizes.staging_block();
  if (staging > 0) reserve(Tier::host, "weight staging", arena_bytes(staging, 4096));
}

class WeightStream::Impl {
 public:
  Impl(Backend& backend, WeightSource& source, std::vector<GroupPlacement> groups,
       const WeightStreamOptions& options, Arena& device, Arena& host, Progress progress,
       void* progress_context)
      : backend_(backend),
        source_(source),
        groups_(std::move(groups)),
        trace_(options.trace),
        overlap_(options.overlap),
        shares_link_(options.shares_link),
        order_(lease_order(groups_, options.order)),
        ring_(groups_, order_, static_cast<std::size_t>(options.slots)),
        alive_(ring_.most_alive()) {
    assert(options.slots >= 1);
    const WeightSizes sizes = weight_sizes(groups_, ring_);
    disk_bytes_ = sizes.disk;
    std::byte* staging = nullptr;
    if (const std::uint64_t block = sizes.staging_block(); block > 0) {
      staging = host.take(block, "weight staging", 4096);
    }
    resident_ = load_resident(backend, source, groups_, device, host, staging, sizes, progress,
                              progress_context);
    make_staging(sizes.staging, staging);
    if (sizes.slots > 0) slots_ = device.take(sizes.slots, "weight slots");
    make_views();
    start();
  }

  ~Impl() {
    stop();
    // The arenas may be destroyed after this returns, so no copy may still write a slot and no work
    // may still read one.
    for (const Lane lane : {Lane::host_to_device, Lane::compute}) {
      try {
        backend_.synchronize(backend_.record(lane));
      } catch (const Error&) {
        // A failed device does no more work, and its users know of the failure.
      }
    }
  }

  Lease acquire(std::int32_t group, std::int32_t pass) {
    check_turn(group);
    Lease lease;
    const auto index = static_cast<std::size_t>(group);
    if (groups_[index].slot_bytes() == 0) {
      lease.tensors_ = shapes_[index];
    } else {
      await_published(next_item_, group, pass);
      compute_waits(backend_, alive(next_item_).copied, Activity::stall_weights);
      lease.tensors_ = &views_[next_item_ % ring_.cycle()][ring_.slot_of(next_item_)];
      lease.item_ = next_item_++;
    }
    next_ = (next_ + 1) % order_.size();
    return lease;
  }

  Lease shape_of(std::int32_t group) const {
    Lease lease;
    lease.tensors_ = shapes_[static_cast<std::size_t>(group)];
    return lease;
  }

  void release(const Lease& lease) {
    if (lease.item_ == Lease::kNotStreamed) return;
    const Event released = backend_.record(Lane::compute);
    {
      const std::lock_guard lock(mutex_);
      Alive& item = alive(lease.item_);
      assert(item.held && lease.item_ >= released_);
      item.released = released;
      item.held = false;
      last_use_ = released;
      while (released_ < next_item_ && !alive(released_).held) ++released_;
    }
    changed_.notify_all();
  }

  std::int32_t group_count() const { return static_cast<std::int32_t>(groups_.size()); }
  std::uint64_t disk_bytes() const { return disk_bytes_; }

 private:
  /// An item from the time its copies are enqueued until its place is filled anew.
  struct Alive {
    Event copied;       // set before the item is published
    Event released;     // of the last work that read it
    bool held = false;  // until release(); guarded by mutex_
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
    for (const GroupPlacement& group : groups_) {
      chunks_.push_back(weight_chunks(group, source_, sizes.bytes));
    }
  }

  // Each item's tensors in every slot they may be in, so that a lease is a pointer.
  void make_views() {
    for (const GroupPlacement& group : groups_) group_offsets_.push_back(slot_offsets(group));
    shapes_.resize(groups_.size());
    views_.resize(ring_.cycle());
    for (std::size_t item = 0; item < views_.size(); ++item) {
      const std::size_t g = ring_.group_of(item);
      for (std::size_t slot = 0; slot < ring_.slots(); ++slot) {
        views_[item].push_back(view_of(g, slots_ + ring_.offset(item, slot)));
      }
      shapes_[g] = views_[item].data();
    }
    resident_views_.resize(groups_.size());
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      if (shapes_[g] != nullptr) continue;
      resident_views_[g] = view_of(g, nullptr);
      shapes_[g] = &resident_views_[g];
    }
  }

  std::vector<SplitMatrix> view_of(std::size_t group, std::byte* place) const {
    std::vector<SplitMatrix> views;
    for (std::size_t t = 0; t < groups_[group].tensors.size(); ++t) {
      const WeightInfo& info = groups_[group].tensors[t].info;
      SplitMatrix& view = views.emplace_back();
      if (info.rows == 0) continue;
      const TensorView& resident = resident_[group][t].device;
      view.resident = {resident.data, info.dtype, resident.rows, info.columns};
      view.streamed = {nullptr, info.dtype, info.rows - resident.rows, info.columns};
      if (view.streamed.rows > 0) view.streamed.data = place + group_offsets_[group][t];
    }
    return views;
  }

  void start() {
    if (ring_.cycle() == 0) return;
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

  // An error here is a bug of the program: the schedule and the stream know the same order.
  void check_turn(std::int32_t group) const {
    const std::int32_t next = order_[next_];
    if (group == next) return;
    throw Error(ExitStatus::failure,
                fmt::format("the weights of {} were asked for where {} is next in the order of "
                            "leases; this is an error in the program",
                            name_of_group(group), name_of_group(next)));
  }

  std::string name_of_group(std::int32_t group) const {
    if (group < 0 || group >= group_count()) return fmt::format("group {}", group);
    return fmt::format("'{}'", groups_[static_cast<std::size_t>(group)].name);
  }

  // Only this thread releases leases. If it waited for a place that one of its own leases holds, it
  // would wait for ever.
  void check_place(std::uint64_t item) const {
    if (ring_.first_that_may_stay(item) <= released_) return;
    const auto group_of = [this](std::uint64_t i) {
      return name_of_group(static_cast<std::int32_t>(ring_.group_of(i)));
    };
    throw Error(ExitStatus::failure,
                fmt::format("the weights of {} were asked for while the lease of {} holds their "
                            "place; this is an error in the program",
                            group_of(item), group_of(released_)));
  }

  void await_published(std::uint64_t item, std::int32_t group, std::int32_t pass) {
    std::unique_lock lock(mutex_);
    check_place(item);
    if (published_ <= item && !failure_) {
      const std::int32_t layer = groups_[static_cast<std::size_t>(group)].layer;
      const ScopedSpan span(trace_, Activity::wait_weights, pass, layer < 0 ? group : layer);
      if (!overlap_ && released_ < item) {
        last_use_ = backend_.record(Lane::compute);
        wanted_ = item + 1;
        changed_.notify_all();
      }
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

  Alive& alive(std::uint64_t item) { return alive_[item % alive_.size()]; }
  Staging& staging_of(std::uint64_t chunk) { return stagings_[chunk % stagings_.size()]; }

  // Blocks until `condition`; false: there is nothing more to do.
  template <typename Condition>
  bool await(Condition condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || failure_ || condition(); });
    return !stopping_ && !failure_;
  }

  // Without overlap an item's turn comes when the ones before are over, or when it is asked for.
  bool await_turn(std::uint64_t item) {
    if (overlap_) return true;
    if (!await([&] { return released_ >= item || wanted_ > item; })) return false;
    Event last;
    {
      const std::lock_guard lock(mutex_);
      last = last_use_;
    }
    backend_.synchronize(last);
    return true;
  }

  void read_items() {
    std::uint64_t chunk = 0;
    for (std::uint64_t item = 0;; ++item) {
      if (!await_turn(item)) return;
      for (const WeightChunk& next : chunks_[ring_.group_of(item)]) {
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
    std::uint64_t gone = 0;  // items before it are released, and computed
    for (std::uint64_t item = 0;; ++item) {
      const std::uint64_t stay = ring_.first_that_may_stay(item);
      if (!await_turn(item) || !await([&] { return released_ >= stay; })) return;
      // Wait on the host. A wait on the copy lane would hold back copies of the cache and the
      // activations until the compute lane catches up.
      for (; gone < stay; ++gone) backend_.synchronize(alive(gone).released);
      const std::size_t group = ring_.group_of(item);
      std::byte* place = slots_ + ring_.offset(item, ring_.slot_of(item));
      move_host_rows(group, place);
      if (!stagings_.empty()) {
        for (const WeightChunk& next : chunks_[group]) {
          if (!await([&] { return issued_ > chunk; })) return;
          move_chunk(next, staging_of(chunk++), place);
          count(moved_);
        }
      }
      alive(item).copied = backend_.record(Lane::host_to_device);
      {
        const std::lock_guard lock(mutex_);
        alive(item).held = true;
        ++published_;
      }
      changed_.notify_all();
    }
  }

  void move_host_rows(std::size_t group, std::byte* place) {
    const std::vector<std::size_t>& offsets = group_offsets_[group];
    for (std::size_t t = 0; t < resident_[group].size(); ++t) {
      const TensorView& rows = resident_[group][t].host;
      if (rows.rows == 0) continue;
      move(place + offsets[t], static_cast<const std::byte*>(rows.data), rows.bytes());
    }
  }

  void move_chunk(const WeightChunk& chunk, Staging& staging, std::byte* place) {
    staging.reads.wait();
    for (const WeightChunk::Copy& copy : chunk.copies) {
      move(place + copy.target, staging.data + copy.source, copy.bytes);
    }
    staging.copied = backend_.record(Lane::host_to_device);
  }

  // Where others share the link a piece is put on the lane when the one before the last is there.
  void move(std::byte* target, const std::byte* source, std::size_t bytes) {
    if (!shares_link_) return backend_.copy(Lane::host_to_device, target, source, bytes);
    for (std::size_t done = 0; done < bytes;) {
      const std::size_t part = std::min(bytes - done, kWeightPieceBytes - piece_bytes_);
      backend_.copy(Lane::host_to_device, target + done, source + done, part);
      done += part;
      piece_bytes_ += part;
      if (piece_bytes_ < kWeightPieceBytes) continue;
      piece_bytes_ = 0;
      backend_.synchronize(std::exchange(last_piece_, backend_.record(Lane::host_to_device)));
    }
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
  std::vector<GroupPlacement> groups_;
  Trace* trace_;
  bool overlap_;
  bool shares_link_;
  std::vector<std::int32_t> order_;
  WeightRing ring_;
  std::vector<Alive> alive_;  // of item n at n % size
  std::uint64_t disk_bytes_ = 0;
  std::byte* slots_ = nullptr;
  std::vector<Staging> stagings_;  // in the host
  std::vector<ResidentGroup> resident_;
  std::vector<std::vector<std::size_t>> group_offsets_;       // of each tensor in the group's place
  std::vector<std::vector<WeightChunk>> chunks_;              // by group
  std::vector<std::vector<std::vector<SplitMatrix>>> views_;  // by item of the cycle, and slot
  std::vector<std::vector<SplitMatrix>> resident_views_;      // by group, of those not streamed
  std::vector<const std::vector<SplitMatrix>*> shapes_;       // by group

  // The mover's: bytes on the lane behind the last whole piece, and when that is there.
  std::size_t piece_bytes_ = 0;
  Event last_piece_;

  // The acquiring thread's.
  std::size_t next_ = 0;  // in order_
  std::uint64_t next_item_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t issued_ = 0;  // chunks whose reads are under way or over
  std::uint64_t moved_ = 0;   // chunks whose copies are enqueued
  std::uint64_t published_ = 0;
  std::uint64_t released_ = 0;  // every item before this one is released
  std::uint64_t wanted_ = 0;    // without overlap: items before this one are asked for
  Event last_use_;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

WeightStream::WeightStream(Backend& backend, WeightSource& source,
                           std::vector<GroupPlacement> groups, const WeightStreamOptions& options,
                           Arena& device, Arena& host,
                           void (*progress)(std::uint64_t bytes, void* context),
                           void* progress_context)
    : impl_(std::make_unique<Impl>(backend, source, std::move(groups), options, device, host,
                                   progress, progress_context)) {}

WeightStream::~WeightStream() = default;

WeightStream::Lease WeightStream::acquire(std::int32_t group, std::int32_t pass) {
  return impl_->acquire(group, pass);
}

WeightStream::Lease WeightStream::shape_of(std::int32_t group) const {
  return impl_->shape_of(group);
}

void WeightStream::release(const Lease& lease) { impl_->release(lease); }

std::int32_t WeightStream::group_count() const { return impl_->group_count(); }

std::uint64_t WeightStream::disk_bytes() const { return impl_->disk_bytes(); }

}  // namespace sluice::offload
