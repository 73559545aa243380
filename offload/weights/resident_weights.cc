#include "offload/weights/resident_weights.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"

namespace sluice::offload {

namespace {

// Two halves: one is read into while the other is copied from. Large enough for several pieces of
// the disk engine to be in flight.
constexpr std::uint64_t kLoadBytes = std::uint64_t{32} << 20;

// A read of this size is as fast as a disk gets, with several of them waiting for it.
constexpr std::uint64_t kChunkBytes = std::uint64_t{4} << 20;
// Read ahead beyond the slots: it only evens out layers that take unlike times.
constexpr std::uint64_t kMostStaging = std::uint64_t{256} << 20;

std::int64_t rows_in(const TensorPlacement& tensor, Tier tier) {
  return tensor.rows[static_cast<std::size_t>(tier)];
}

// The token table of a model with tied embeddings is a tensor of the embedding and of the head. On
// one stage, all on the device, it is there once.
bool can_be_shared(const TensorPlacement& tensor) {
  return tensor.info.key >= 0 && tensor.info.rows > 0 &&
         rows_in(tensor, Tier::device) == tensor.info.rows;
}

class Loader {
 public:
  Loader(Backend& backend, WeightSource& source, std::byte* staging, std::uint64_t load_bytes)
      : backend_(backend), source_(source), half_bytes_(load_bytes / 2) {
    halves_[0].data = staging;
    halves_[1].data = staging + half_bytes_;
  }
  ~Loader() {
    // Also on failure the arenas must not go while a copy still reads or writes them.
    try {
      backend_.synchronize(backend_.record(Lane::host_to_device));
    } catch (const Error&) {
      // The failure that matters is on its way already.
    }
  }
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  void fill_device(const TensorPlacement& tensor, std::byte* target) {
    const std::uint64_t bytes = tensor.bytes(Tier::device);
    const std::uint64_t chunks = (bytes + half_bytes_ - 1) / half_bytes_;
    const auto chunk_bytes = [&](std::uint64_t chunk) {
      return static_cast<std::size_t>(std::min(half_bytes_, bytes - chunk * half_bytes_));
    };
    const auto read = [&](std::uint64_t chunk) {
      Half& half = halves_[chunk % 2];
      backend_.synchronize(half.copied);
      source_.read(tensor.info, chunk * half_bytes_, chunk_bytes(chunk), half.data, half.reads);
    };
    if (chunks > 0) read(0);
    for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
      if (chunk + 1 < chunks) read(chunk + 1);
      Half& half = halves_[chunk % 2];
      half.reads.wait();
      backend_.copy(Lane::host_to_device, target + chunk * half_bytes_, half.data,
                    chunk_bytes(chunk));
      half.copied = backend_.record(Lane::host_to_device);
    }
  }

  void fill_host(const TensorPlacement& tensor, std::byte* target) {
    source_.read(tensor.info, tensor.bytes(Tier::device), tensor.bytes(Tier::host), target,
                 host_reads_);
    host_reads_.wait();
  }

  void leave_on_disk(const TensorPlacement& tensor) {
    source_.keep_on_disk(tensor.info, tensor.bytes(Tier::device) + tensor.bytes(Tier::host),
                         tensor.bytes(Tier::disk));
  }

 private:
  struct Half {
    std::byte* data = nullptr;
    Event copied;
    IoGroup reads;
  };
  Backend& backend_;
  WeightSource& source_;
  std::uint64_t half_bytes_;
  Half halves_[2];
  IoGroup host_reads_;
};

TensorView view_of(const TensorPlacement& tensor, Tier tier, std::byte* data) {
  return {data, tensor.info.dtype, rows_in(tensor, tier), tensor.info.columns};
}

}  // namespace

namespace {

// As much as the slots hold of disk rows, in chunks, and one more for a read to be under way when
// all the others are waiting.
StagingSizes staging_sizes(const WeightRing& slots) {
  const std::vector<std::uint64_t>& layers = slots.disk_bytes();
  const std::uint64_t largest = layers.empty() ? 0 : *std::ranges::max_element(layers);
  if (largest == 0) return {};
  const std::uint64_t chunk = std::min(kChunkBytes, superset_room(largest));
  const std::uint64_t ring = std::min(kMostStaging, RingLayout(layers, slots.slots()).total());
  return {(ring + chunk - 1) / chunk + 1, chunk};
}

}  // namespace

WeightSizes weight_sizes(const std::vector<GroupPlacement>& groups, const WeightRing& ring) {
  WeightSizes sizes;
  std::unordered_set<std::int32_t> shared;
  for (const GroupPlacement& group : groups) {
    for (const TensorPlacement& tensor : group.tensors) {
      sizes.host += arena_bytes(tensor.bytes(Tier::host));
      if (tensor.info.written_by_run) sizes.disk += round_to_blocks(tensor.bytes(Tier::disk));
      if (can_be_shared(tensor) && !shared.insert(tensor.info.key).second) continue;
      sizes.device += arena_bytes(tensor.bytes(Tier::device));
      sizes.load =
          std::max(sizes.load, std::min(kLoadBytes, round_to_blocks(tensor.bytes(Tier::device))));
    }
  }
  sizes.slots = ring.bytes();
  sizes.staging = staging_sizes(ring);
  return sizes;
}

std::vector<ResidentGroup> load_resident(Backend& backend, WeightSource& source,
                                         const std::vector<GroupPlacement>& groups, Arena& device,
                                         Arena& host, std::byte* staging, const WeightSizes& sizes,
                                         Progress progress, void* progress_context) {
  source.reserve_disk(sizes.disk);  // a disk that is too small is found out before all else
  Loader loader(backend, source, staging, sizes.load);
  std::unordered_map<std::int32_t, TensorView> shared;
  std::vector<ResidentGroup> resident;
  for (const GroupPlacement& group : groups) {
    ResidentGroup& views = resident.emplace_back();
    for (const TensorPlacement& tensor : group.tensors) {
      ResidentTensor& view = views.emplace_back();
      if (tensor.info.rows == 0) continue;
      const auto known = can_be_shared(tensor) ? shared.find(tensor.info.key) : shared.end();
      if (known != shared.end()) {
        view.device = known->second;
        continue;
      }
      if (rows_in(tensor, Tier::device) > 0) {
        std::byte* data = device.take(tensor.bytes(Tier::device), "weights");
        loader.fill_device(tensor, data);
        view.device = view_of(tensor, Tier::device, data);
        if (can_be_shared(tensor)) shared.emplace(tensor.info.key, view.device);
      }
      if (rows_in(tensor, Tier::host) > 0) {
        std::byte* data = host.take(tensor.bytes(Tier::host), "weights");
        loader.fill_host(tensor, data);
        view.host = view_of(tensor, Tier::host, data);
      }
      if (rows_in(tensor, Tier::disk) > 0) loader.leave_on_disk(tensor);
      if (progress != nullptr) {
        progress(tensor.bytes(Tier::device) + tensor.bytes(Tier::host), progress_context);
      }
    }
  }
  return resident;
}

}  // namespace sluice::offload
