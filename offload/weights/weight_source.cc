#include "offload/weights/weight_source.h"

#include <cassert>
#include <mutex>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/device/error.h"

namespace sluice::offload {

namespace {

std::string shape_text(std::int64_t rows, std::int64_t columns) {
  return rows == 1 ? fmt::format("[{}]", columns) : fmt::format("[{}, {}]", rows, columns);
}

class CheckpointSource final : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, DiskEngine& disk)
      : checkpoint_(checkpoint), disk_(disk), opened_(checkpoint.files().size(), kNotOpen) {}

  WeightInfo find(const std::string& name, std::int64_t rows, std::int64_t columns) override {
    return find_weight(checkpoint_, name, rows, columns);
  }

  bool has(const std::string& name) const override { return checkpoint_.find(name) != nullptr; }

  void read(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    const TensorRecord& record = checkpoint_.tensors()[static_cast<std::size_t>(tensor.key)];
    assert(offset <= record.bytes && bytes <= record.bytes - offset);
    disk_.read(file(record.file), record.offset + offset, bytes, target, group);
  }

  WeightExtent extent(const WeightInfo& tensor, std::uint64_t offset, std::size_t) override {
    const TensorRecord& record = checkpoint_.tensors()[static_cast<std::size_t>(tensor.key)];
    return {&disk_, file(record.file), record.offset + offset};
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

  const Checkpoint& checkpoint_;
  DiskEngine& disk_;
  std::mutex mutex_;
  std::vector<FileId> opened_;
};

}  // namespace

WeightInfo find_weight(const Checkpoint& checkpoint, const std::string& name, std::int64_t rows,
                       std::int64_t columns) {
  const TensorRecord* record = checkpoint.find(name);
  if (record == nullptr) {
    const auto& files = checkpoint.files();
    throw InputError(
        fmt::format("the checkpoint in {} has no tensor \"{}\" of shape {}, which its "
                    "config.json asks for; fetch the model again",
                    files.empty() ? "?" : files.front().parent_path().string(), name,
                    shape_text(rows, columns)));
  }
  const bool vector = rows == 1 && record->shape == std::vector<std::int64_t>{columns};
  if (!vector && record->shape != std::vector<std::int64_t>{rows, columns}) {
    const auto& file = checkpoint.files()[static_cast<std::size_t>(record->file)];
    throw InputError(fmt::format(
        "{}: tensor \"{}\" has the shape [{}], but config.json asks for {}; "
        "the two are not of the same model",
        file.string(), record->name, fmt::join(record->shape, ", "), shape_text(rows, columns)));
  }
  const auto key = static_cast<std::int32_t>(record - checkpoint.tensors().data());
  return {record->dtype, rows, columns, key};
}

std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint,
                                                     DiskEngine& disk) {
  return std::make_unique<CheckpointSource>(checkpoint, disk);
}

}  // namespace sluice::offload
