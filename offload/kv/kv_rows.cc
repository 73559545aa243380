#include "offload/kv/kv_rows.h"

namespace sluice::offload {

namespace {

void copy_rows(Backend& backend, Lane lane, TensorView target, TensorView source,
               const std::vector<KvRows>& rows) {
  for (const KvRows& range : rows) {
    backend.copy(lane, target.row(range.first), source.row(range.first),
                 static_cast<std::size_t>(range.count) * source.row_bytes());
  }
}

}  // namespace

KvRowStaging::KvRowStaging(Backend& backend, const KvLayout& layout, const KvMemory& memory)
    : backend_(backend) {
  if (!layout.uses_rows()) return;
  const std::int64_t tokens = layout.shape.tokens_per_gpu_batch;
  const std::int64_t width = std::int64_t{layout.shape.heads} * layout.shape.head_dim;
  for (std::size_t i = 0; i < sets_.size(); ++i) {
    const TensorView all{memory.row_ring[i], layout.shape.compute_dtype,
                         tokens * (layout.host_attends ? 4 : 2), width};
    sets_[i].keys = all.slice(0, tokens);
    sets_[i].values = all.slice(tokens, tokens);
    if (!layout.host_attends) continue;
    sets_[i].query = all.slice(2 * tokens, tokens);
    sets_[i].out = all.slice(3 * tokens, tokens);
  }
}

KvRowStaging::Set& KvRowStaging::next(Event ready) {
  Set& set = sets_[next_];
  next_ = 1 - next_;
  backend_.wait(Lane::device_to_host, ready);
  if (set.free.ticket != 0) backend_.wait(Lane::device_to_host, set.free);
  return set;
}

void KvRowStaging::bring(TensorView target, TensorView source, const std::vector<KvRows>& rows) {
  copy_rows(backend_, Lane::device_to_host, target, source, rows);
}

Event KvRowStaging::hand_over() {
  const Event there = backend_.record(Lane::device_to_host);
  backend_.wait(Lane::host_compute, there);
  return there;
}

void KvRowStaging::take_back(TensorView target, TensorView source,
                             const std::vector<KvRows>& rows) {
  copy_rows(backend_, Lane::compute, target, source, rows);
}

}  // namespace sluice::offload
