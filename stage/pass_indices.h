// Token ids, positions and logit rows of the passes under way, from the pass's header to the
// device. Every GPU batch has two sets, which passes take in turn.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device/backend.h"
#include "stage/pass.h"
#include "stage/pass_buffers.h"
#include "stage/workspace.h"

namespace sluice::stage {

class PassIndices {
 public:
  /// All must outlive it.
  PassIndices(const StageLayout& layout, const Workspace& workspace, Backend& backend);

  /// Writes the host arrays of the pass. Blocks until the device has read those of two passes ago.
  void fill(const Pass& pass);
  /// Puts the uploads on Lane::compute, `logit_rows` of the array that the caller filled.
  void upload(const Pass& pass, std::int32_t gpu_batch, std::int32_t logit_rows);
  const IndexBuffers& of(const Pass& pass, std::int32_t gpu_batch) const {
    return workspace_.indices[buffers_.of(pass.number, gpu_batch)];
  }
  /// The last work of the pass that reads them was put on Lane::compute.
  void was_read(const Pass& pass, std::int32_t gpu_batch);

 private:
  const StageLayout& layout_;
  const Workspace& workspace_;
  Backend& backend_;
  const PassBuffers buffers_;
  std::vector<Event> read_;  // by buffer
};

}  // namespace sluice::stage
