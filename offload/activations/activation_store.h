// Hidden states of the GPU batches of a pass between layers, at home in the tiers by share of
// tokens: the first rows on the device, the next in host memory, the rest on disk.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "kernels/device/trace.h"
#include "offload/disk/disk_engine.h"
#include "offload/memory_plan.h"
#include "offload/policy.h"

namespace sluice::offload {

struct ActivationShape {
  std::int32_t gpu_batches = 1;
  std::int64_t tokens = 0;  // most rows of a GPU batch
  std::int64_t width = 0;
  DType dtype = DType::f32;
  bool adjoining = false;  // GPU batches lie one behind the other; all of them on the device
};

/// Rows of a GPU batch of `tokens` that are at home in each tier.
PerTier<std::int64_t> rows_by_tier(const Shares& shares, std::int64_t tokens);

/// One thread calls. With 100 % on the device every GPU batch has a device buffer of its own and
/// nothing moves. Otherwise two device buffers are shared in turn by the GPU batches.
class ActivationStore {
 public:
  /// Reserves "activations" in each tier, "activation staging" in host when some are on disk. With
  /// less than 100 % on the device, "activations" there are the two shared buffers and the home of
  /// the device rows.
  static void plan(const ActivationShape& shape, const Shares& shares, MemoryPlan& plan);

  ActivationStore(Backend& backend, const ActivationShape& shape, const Shares& shares,
                  Arena& device, Arena& host, DiskEngine* disk, const RunFolder* folder,
                  Trace* trace);
  ~ActivationStore();  // waits for what is under way

  /// Device [tokens, width] of `gpu_batch`. With `fresh` its content is about to be written by work
  /// on Lane::compute, which waits until the buffer is free. Else it is
  /// what close() took home (the same `tokens`), and Lane::compute and Lane::device_to_host wait
  /// until it is back; what never left the device is there for Lane::compute alone. At most two GPU
  /// batches are open at a time where buffers are shared. Blocks only for the disk (time goes to
  /// Activity::wait_activations); throws IoError or CapacityError when it failed.
  TensorView open(std::int32_t gpu_batch, std::int64_t tokens, bool fresh);
  /// With ActivationShape::adjoining, before the first open() of a pass: the rows of each GPU batch
  /// in it.
  void lay_out(std::span<const std::int32_t> tokens);
  /// ... and all of them together, device [sum of tokens, width].
  TensorView all() const;
  /// Starts to bring `gpu_batch` back; at most one ahead of open(); optional. Does nothing where
  /// both buffers are open.
  void prefetch(std::int32_t gpu_batch, std::int64_t tokens);
  /// After the last work on the view was put on Lane::compute. With `keep` it is taken home, else
  /// its content is no longer needed. `read_by` is a further event (a send's copy) the buffer waits
  /// for.
  void close(std::int32_t gpu_batch, bool keep, Event read_by = {});

  /// Bytes of its file.
  std::uint64_t disk_bytes() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::offload
