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
  const KvShape& shape = layout.shape;
  const std::int64_t tokens = shape.tokens_per_gpu_batch;
  for (std::size_t i = 0; i < sets_.size(); ++i) {
    std::byte* next = memory.row_ring[i];
    const auto take = [&](std::int32_t heads) {
      const TensorView rows{next, shape.compute_dtype, tokens,
                            std::int64_t{heads} * shape.head_dim};
      next += rows.bytes();
      return rows;
    };
    sets_[i].keys = take(shape.kv_heads);
    sets_[i].values = take(shape.kv_heads);
    if (!layout.host_attends) continue;
    sets_[i].query = take(shape.query_heads);
    sets_[i].out = take(shape.query_heads);
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
