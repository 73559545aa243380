// Hidden states of the GPU batches of a pass between layers, at home in the tiers by share of tokens:
// the first rows on the device, the next in host memory, the rest on disk.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/device/backend.h"
#include "kernels/device/tensor_view.h"
#include "kernels/device/trace.h"
#include "offload/disk_engine.h"
#include "offload/memory_plan.h"
#include "offload/policy.h"

namespace sluice::offload {

struct ActivationShape {
  std::int32_t gpu_batches = 1;
  std::int64_t tokens = 0;  // most rows of a GPU batch
  std::int64_t width = 0;
  DType dtype = DType::f32;
};

/// With 100 % on the device every GPU batch has a device buffer of its own and nothing moves.
/// Otherwise two device buffers are shared in turn by the GPU batches.
class ActivationStore {
 public:
  /// Reserves "activations" in each tier, "activation staging" in host when some are on disk.
  static void plan(const ActivationShape& shape, const Shares& shares, MemoryPlan& plan);

  ActivationStore(Backend& backend, const ActivationShape& shape, const Shares& shares,
                  Arena& device, Arena& host, DiskEngine* disk, const RunFolder* folder,
                  Trace* trace);
  ~ActivationStore();

  /// Device [tokens, width] of `gpu_batch`. With `fresh` its content is about to be written, else it
  /// is what close() took home, and Lane::compute and Lane::device_to_host wait for it. At most two
  /// GPU batches are open at a time. Blocks only for disk reads.
  TensorView open(std::int32_t gpu_batch, std::int64_t tokens, bool fresh);
  /// Starts to bring `gpu_batch` back; at most one ahead of open(); optional.
  void prefetch(std::int32_t gpu_batch, std::int64_t tokens);
  /// After the last work on the view was put on Lane::compute. With `keep` it is taken home, else its
  /// content is no longer needed. `read_by` is a further event (a send's copy) the buffer waits for.
  void close(std::int32_t gpu_batch, bool keep, Event read_by = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::offload
