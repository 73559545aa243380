// Weights on their way to the computing: the groups of a stage, in the order of their leases,
// cyclically, for ever.
//
// Device rows are loaded once and stay. Host and disk rows pass through a ring of device slots. Two
// threads of the stream fill the ring ahead of use, across passes: disk -> host staging -> device,
// as a chain of events. They wait for computing only by the event that a lease was released with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "kernels/device/trace.h"
#include "offload/memory_plan.h"
#include "offload/weights/placement.h"

namespace sluice::offload {

/// Of copies of weights where others share the link: two such pieces stand in front of one of the
/// others, at most. A link of 25 GB/s takes 0.17 ms for one.
inline constexpr std::size_t kWeightPieceBytes = std::size_t{4} << 20;

struct WeightStreamOptions {
  /// Layers that the ring holds at a time. (GroupSpec::layer says which groups are a layer.)
  std::int32_t slots = 2;
  Trace* trace = nullptr;
  /// false: a group is fetched only after the leases before it are released and their compute is
  /// done, or when it is asked for: nothing moves while something is computed. FlexGen: --overlap.
  bool overlap = true;
  /// The groups in the order of their leases, over and over. A group may come more than once, and
  /// is fetched each time. A group that is all on the device costs nothing. Empty: each group once.
  std::vector<std::int32_t> order = {};
  /// Pages of the cache or hidden states cross the link to the device, too. Weights are then put on
  /// Lane::host_to_device in pieces, so that none of these waits for a whole layer.
  bool shares_link = false;
};

class WeightStream {
 public:
  /// Reserves "weights" in device and host, and on disk what the run writes there itself (nothing
  /// for checkpoints). Also "weight slots" in device, and "weight staging" in host: where disk rows
  /// exist what the slots hold of them (<= 256 MiB), and at least what loading device rows passes
  /// through (<= 32 MiB). A tensor that several groups name is counted once where all its rows are
  /// on the device in each of them. Throws Error for an order that cannot be.
  static void plan(const std::vector<GroupPlacement>& groups, const WeightStreamOptions& options,
                   MemoryPlan& plan);

  /// Takes its memory from the arenas (exactly what plan() reserved), loads device and host rows
  /// through `source` within the staging buffer, starts the ring. All references must outlive it.
  /// `progress(bytes)` is called after each tensor, with the bytes of that tensor now in device and
  /// host memory. Throws IoError, InputError, CapacityError.
  WeightStream(Backend& backend, WeightSource& source, std::vector<GroupPlacement> groups,
               const WeightStreamOptions& options, Arena& device, Arena& host,
               void (*progress)(std::uint64_t bytes, void* context) = nullptr,
               void* progress_context = nullptr);
  ~WeightStream();  // stops the ring; releases nothing that a lane still reads

  /// A group's weights, readable by work put on Lane::compute until release().
  class Lease {
   public:
    const SplitMatrix& tensor(std::size_t index) const { return (*tensors_)[index]; }

   private:
    friend class WeightStream;
    static constexpr std::uint64_t kNotStreamed = ~std::uint64_t{0};
    const std::vector<SplitMatrix>* tensors_ = nullptr;
    std::uint64_t item_ = kNotStreamed;
  };

  /// The next lease of the order, on one thread. Blocks until the group's copies are enqueued (the
  /// time goes to Activity::wait_weights), then makes Lane::compute wait for them. Leases may
  /// overlap and be released in any order; a group can come only when what had its place is
  /// released, so hold no more than `slots` layers. Throws Error, naming both groups, for one that
  /// is not next in the order, or whose place a lease still holds; IoError of a failed read.
  Lease acquire(std::int32_t group, std::int32_t pass);
  /// Where a group's rows lie, whatever is in those that pass through the ring; not to be released.
  Lease shape_of(std::int32_t group) const;
  /// After the last work that reads the lease was put on Lane::compute.
  void release(const Lease& lease);

  std::int32_t group_count() const;
  /// What the run wrote to disk of them; nothing for checkpoints.
  std::uint64_t disk_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::offload
