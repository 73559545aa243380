#include "stage/pass_indices.h"

namespace sluice::stage {

PassIndices::PassIndices(const StageLayout& layout, const Workspace& workspace, Backend& backend)
    : layout_(layout),
      workspace_(workspace),
      backend_(backend),
      buffers_(layout.batching.num_gpu_batches),
      read_(static_cast<std::size_t>(buffers_.count())) {}

void PassIndices::fill(const Pass& pass) {
  for (std::size_t g = 0; g < pass.batch_tokens.size(); ++g) {
    if (pass.batch_tokens[g] == 0) continue;
    backend_.synchronize(read_[buffers_.of(pass.number, static_cast<std::int32_t>(g))]);
  }
  const bool is_end = layout_.first() || layout_.last();  // a middle stage has no use for ids
  std::size_t next = 0;
  for (const PassRow& row : pass.rows) {
    const IndexBuffers& indices = of(pass, row.gpu_batch);
    // ~p stands for position p of a sequence that turns by the long frequencies.
    const std::int32_t mask = layout_.model.positions.turns_long(row.total) ? -1 : 0;
    for (std::int32_t i = 0; i < row.new_tokens; ++i) {
      if (is_end) indices.host_ids[row.first_token + i] = pass.tokens[next++];
      indices.host_positions[row.first_token + i] = (row.position + i) ^ mask;
    }
  }
}

void PassIndices::upload(const Pass& pass, std::int32_t gpu_batch, std::int32_t logit_rows) {
  // On the compute lane itself: a few hundred bytes, and the arrays are free when it has read them.
  const IndexBuffers& indices = of(pass, gpu_batch);
  const std::size_t bytes =
      static_cast<std::size_t>(pass.batch_tokens[static_cast<std::size_t>(gpu_batch)]) *
      sizeof(std::int32_t);
  if (layout_.first()) {
    backend_.copy(Lane::compute, indices.device_ids, indices.host_ids, bytes);
  }
  backend_.copy(Lane::compute, indices.device_positions, indices.host_positions, bytes);
  if (logit_rows > 0) {
    backend_.copy(Lane::compute, indices.device_logit_rows, indices.host_logit_rows,
                  static_cast<std::size_t>(logit_rows) * sizeof(std::int32_t));
  }
}

void PassIndices::was_read(const Pass& pass, std::int32_t gpu_batch) {
  read_[buffers_.of(pass.number, gpu_batch)] = backend_.record(Lane::compute);
}

}  // namespace sluice::stage
