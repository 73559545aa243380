#include "offload/weights/weight_source.h"

#include <algorithm>
#include <cassert>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "offload/checkpoint/input_file.h"

namespace sluice::offload {

namespace {

class CheckpointSource final : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, StoredNames names, DiskEngine& disk)
      : checkpoint_(checkpoint),
        names_(std::move(names)),
        disk_(disk),
        opened_(checkpoint.files().size(), kNotOpen) {}

  WeightInfo find(const WeightSpec& spec) override {
    const StoredWeight weight = find_weight(checkpoint_, names_, spec);
    const auto [entry, added] = keys_.emplace(std::pair(weight.record, weight.rows),
                                              static_cast<std::int32_t>(weights_.size()));
    if (added) weights_.push_back(weight);
    return {weight.record->dtype, spec.rows, spec.columns, entry->second, false, weight.relaid()};
  }

  void read(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    const StoredWeight& weight = weight_of(tensor);
    assert(offset + bytes <= weight_bytes(tensor));
    auto* out = static_cast<std::byte*>(target);
    if (weight.relaid()) {
      const InputFile file(checkpoint_.files()[static_cast<std::size_t>(weight.record->file)]);
      assert(offset % weight.row_bytes == 0 && bytes % weight.row_bytes == 0);
      read_relaid(weight, file, static_cast<std::int64_t>(offset / weight.row_bytes),
                  static_cast<std::int64_t>(bytes / weight.row_bytes), out);
      return;
    }
    while (bytes > 0) {
      const std::size_t count = std::min<std::uint64_t>(bytes, weight.left_in_piece(offset));
      disk_.read(file(weight.record->file), weight.position(offset), count, out, group);
      offset += count;
      out += count;
      bytes -= count;
    }
  }

  WeightExtent extent(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes) override {
    const StoredWeight& weight = weight_of(tensor);
    if (weight.relaid() || bytes > weight.left_in_piece(offset)) return {};
    return {&disk_, file(weight.record->file), weight.position(offset)};
  }

  void keep_on_disk(const WeightInfo&, std::uint64_t, std::size_t) override {}

 private:
  static constexpr FileId kNotOpen = -1;

  // A stage opens only the shards of its own slice.
  FileId file(std::int32_t index) {
    const std::scoped_lock lock(mutex_);
    FileId& id = opened_[static_cast<std::size_t>(index)];
    if (id == kNotOpen) id = disk_.open_read(checkpoint_.files()[static_cast<std::size_t>(index)]);
    return id;
  }

  const StoredWeight& weight_of(const WeightInfo& tensor) const {
    return weights_[static_cast<std::size_t>(tensor.key)];
  }
  static std::uint64_t weight_bytes(const WeightInfo& tensor) {
    return static_cast<std::uint64_t>(tensor.rows) * row_bytes_of(tensor.dtype, tensor.columns);
  }

  const Checkpoint& checkpoint_;
  StoredNames names_;
  DiskEngine& disk_;
  std::map<std::pair<const TensorRecord*, RowRange>, std::int32_t> keys_;
  std::vector<StoredWeight> weights_;  // by key
  std::mutex mutex_;
  std::vector<FileId> opened_;
};

}  // namespace

std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint,
                                                     StoredNames names, DiskEngine& disk) {
  return std::make_unique<CheckpointSource>(checkpoint, std::move(names), disk);
}

}  // namespace sluice::offload
