// Shapes and types of a model's weights, for planning: nothing can be read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "launcher/model/opened_model.h"
#include "offload/weights/weight_source.h"

namespace sluice::launcher {

class ShapeSource final : public offload::WeightSource {
 public:
  /// As the checkpoint has them, matrices as `compression` keeps them; without a checkpoint as
  /// config.json says. `made_up`: those on disk will be written by the run. `model` must outlive
  /// it.
  ShapeSource(const OpenedModel& model, bool made_up, offload::Compression compression)
      : model_(model), made_up_(made_up), compression_(compression) {}

  offload::WeightInfo find(const offload::WeightSpec& spec) override;
  void read(const offload::WeightInfo& tensor, std::uint64_t offset, std::size_t bytes,
            void* target, offload::IoGroup& group) override;
  void keep_on_disk(const offload::WeightInfo& tensor, std::uint64_t offset,
                    std::size_t bytes) override;

 private:
  const OpenedModel& model_;
  bool made_up_;
  offload::Compression compression_;
  /// By what is stored: embedding and head may share a table.
  std::map<std::pair<std::string, offload::RowRange>, std::int32_t> keys_;
};

}  // namespace sluice::launcher
