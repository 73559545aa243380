// Puts the kernels of one operation on a stream. What they need beside their arguments (workspace,
// libraries' handles) lives here, and belongs to one stream at a time.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/op_call.h"
#include "kernels/cuda/products.h"
#include "kernels/device/backend.h"

namespace sluice::cuda {

class KernelRunner {
 public:
  /// Scores of rows with a repetition penalty: 83 rows of 50272 at a time.
  static constexpr std::size_t kSampleBytes = std::size_t{16} << 20;
  static constexpr std::size_t kWorkspaceBytes =
      Products::kWorkspaceBytes + kAttentionScratchBytes + kSampleBytes;

  /// `workspace`: kWorkspaceBytes of device memory, zeroed. The device is current.
  explicit KernelRunner(Memory workspace);

  /// Puts the call's work on `stream`, which may be one that is captured: nothing here waits,
  /// allocates or calls what a capture forbids, but the first call of a shape may. Throws
  /// DeviceError where a launch is refused.
  void run(cudaStream_t stream, const OpCall& call);

 private:
  Memory workspace_;
  Products products_;
  AttentionResources attention_;
};

}  // namespace sluice::cuda
