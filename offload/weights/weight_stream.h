// Weights on their way to the computing: the layers of the slice, cyclically, for ever.
//
// Device rows are loaded once and stay. Host and disk rows pass through a fixed ring of device
// slots that two threads of its own fill ahead of use, across passes: disk -> host staging ->
// device as a chain of events. They never wait for computing except through the event a slot was
// released with.
#pragma once

#include <memory>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "kernels/device/trace.h"
#include "offload/memory_plan.h"
#include "offload/weights/placement.h"

namespace sluice::offload {

struct WeightStreamOptions {
  std::int32_t slots = 2;
  Trace* trace = nullptr;
  /// false: a slot is filled only after the layer before was released and its compute is done, so
  /// that nothing moves while something is computed. FlexGen: --overlap.
  bool overlap = true;
};

class WeightStream {
 public:
  /// Reserves "weights" in device and host, and on disk what the run writes there itself (nothing
  /// for checkpoints); "weight slots" in device; "weight staging" in host: where disk rows exist
  /// what the slots hold of them (<= 256 MiB), and at least what loading device rows passes through
  /// (<= 32 MiB). A tensor that several layers name is counted once where all its rows are on the
  /// device in each of them.
  static void plan(const std::vector<LayerPlacement>& layers, const WeightStreamOptions& options,
                   MemoryPlan& plan);

  /// Takes its memory from the arenas (exactly what plan() reserved), loads device and host rows
  /// through `source` within the staging buffer, starts the ring. All references must outlive it.
  /// `progress(bytes)` is called after each tensor, with the bytes of that tensor now in device and
  /// host memory. Throws IoError, InputError, CapacityError.
  WeightStream(Backend& backend, WeightSource& source, std::vector<LayerPlacement> layers,
               const WeightStreamOptions& options, Arena& device, Arena& host,
               void (*progress)(std::uint64_t bytes, void* context) = nullptr,
               void* progress_context = nullptr);
  ~WeightStream();  // stops the ring; releases nothing that a lane still reads

  /// A layer's weights, readable by work put on Lane::compute until release().
  class Lease {
   public:
    const SplitMatrix& tensor(std::size_t index) const { return (*tensors_)[index]; }

   private:
    friend class WeightStream;
    const std::vector<SplitMatrix>* tensors_ = nullptr;
    std::int32_t layer_ = -1;
    std::int32_t slot_ = -1;
  };

  /// Layers must be acquired in cyclic order 0, 1, ..., n - 1, 0, ...; one thread. Blocks until the
  /// layer's copies are enqueued (time goes to Activity::wait_weights), then makes Lane::compute
  /// wait for them. Throws IoError of a failed read. At most `slots` leases at a time.
  Lease acquire(std::int32_t layer, std::int32_t pass);
  /// Where a layer's rows lie, whatever is in those that pass through the ring; not to be released.
  Lease shape_of(std::int32_t layer) const;
  /// After the last work that reads the lease was put on Lane::compute.
  void release(const Lease& lease);

  std::int32_t layer_count() const;
  /// What the run wrote to disk of them; nothing for checkpoints.
  std::uint64_t disk_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::offload
