#include "launcher/planner/shape_source.h"

#include <stdexcept>

namespace sluice::launcher {

offload::WeightInfo ShapeSource::find(const offload::WeightSpec& spec) {
  std::pair<std::string, offload::RowRange> place = {spec.name, {}};
  DType dtype = model_.folder.config.dtype;
  if (model_.checkpoint) {
    const offload::StoredWeight stored =
        offload::find_weight(*model_.checkpoint, model_.names, spec);
    place = {stored.record->name, stored.rows};
    dtype = stored.record->dtype;
  }
  const auto next = static_cast<std::int32_t>(keys_.size());
  const std::int32_t key = keys_.emplace(std::move(place), next).first->second;
  return {spec.kept_as(compression_, dtype), spec.rows, spec.columns, key, made_up_};
}

void ShapeSource::read(const offload::WeightInfo&, std::uint64_t, std::size_t, void*,
                       offload::IoGroup&) {
  throw std::logic_error("shapes have no bytes to read");
}

void ShapeSource::keep_on_disk(const offload::WeightInfo&, std::uint64_t, std::size_t) {
  throw std::logic_error("shapes have no bytes to keep");
}

}  // namespace sluice::launcher
