#include "offload/weights/packed_source.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"
#include "offload/disk/disk_requests.h"
#include "offload/memory_plan.h"
#include "offload/weights/packed_file.h"
#include "offload/weights/row_packer.h"

namespace sluice::offload {

namespace {

/// "layers.3.mlp.up.weight" -> "layer-3", or empty: of no decoder layer.
std::string layer_of(const std::string& name) {
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return {};
  const std::size_t dot = name.find('.', kPrefix.size());
  return dot == std::string::npos ? std::string()
                                  : "layer-" + name.substr(kPrefix.size(), dot - kPrefix.size());
}

// Samples are taken at a tensor's begin, in its middle and at its end.
void add_sample(std::string& text, const InputFile& file, const TensorRecord& tensor) {
  constexpr std::uint64_t kSample = 1024;
  const std::uint64_t count = std::min(tensor.bytes, kSample);
  for (const std::uint64_t at :
       {std::uint64_t{0}, (tensor.bytes - count) / 2, tensor.bytes - count}) {
    text += file.read(tensor.offset + at, count);
  }
}

// A file that cannot be examined counts as absent; making it then says why.
bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (!error && (::mkdir(path.c_str(), S_IRWXU) == 0 || errno == EEXIST)) return;
  throw IoError(
      fmt::format("cannot make folder {} for packed weights: {}; choose another with --packed-dir "
                  "(io.packed_directory)",
                  path.string(), error ? error.message() : errno_text(errno)));
}

class PackedCheckpoint final : public PackedSource {
 public:
  PackedCheckpoint(const Checkpoint& checkpoint, StoredNames names, WeightSource& dense,
                   DiskEngine& disk, PackedOptions options)
      : checkpoint_(checkpoint),
        names_(std::move(names)),
        dense_(dense),
        disk_(disk),
        options_(std::move(options)) {}

  WeightInfo find(const WeightSpec& spec) override {
    const WeightInfo dense = dense_.find(spec);
    const auto [entry, added] =
        keys_.emplace(spec.name, static_cast<std::int32_t>(weights_.size()));
    if (added) add(spec, dense, entry->second);
    return weights_[static_cast<std::size_t>(entry->second)].info;
  }

  void read(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    const Weight& weight = weight_of(tensor);
    if (weight.file == kNoFile) {
      dense_.read(weight.dense, offset, bytes, target, group);
      return;
    }
    const WeightExtent at = packed_extent(weight, offset, bytes);
    disk_.read(at.file, at.offset, bytes, target, group);
  }

  WeightExtent extent(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes) override {
    const Weight& weight = weight_of(tensor);
    return weight.file == kNoFile ? dense_.extent(weight.dense, offset, bytes)
                                  : packed_extent(weight, offset, bytes);
  }

  void reserve_disk(std::uint64_t bytes) override { dense_.reserve_disk(bytes); }

  void keep_on_disk(const WeightInfo& tensor, std::uint64_t offset, std::size_t bytes) override {
    const Weight& weight = weight_of(tensor);
    if (weight.file == kNoFile) dense_.keep_on_disk(weight.dense, offset, bytes);
  }

  void prepare(const std::function<void(const PackingState&)>& progress) override {
    const std::string origin = packed_origin(checkpoint_, names_, options_.compression);
    PackingState state;
    state.folder = options_.directory / origin;
    const std::vector<File*> missing = look_for_files(origin, state);
    if (progress) progress(state);
    if (!missing.empty()) {
      RowPacker packer(dense_, options_.threads);
      for (File* file : missing) pack(*file, packer, state, progress);
    }
    for (File& file : files_) {
      file.sums = read_packed_sums(file.path, *file.layout);
      file.id = disk_.open_read_checked(file.path, file.sums);
    }
  }

 private:
  static constexpr std::size_t kNoFile = SIZE_MAX;
  struct Weight {
    WeightInfo info;   // as it is given out
    WeightInfo dense;  // as the checkpoint has it
    std::size_t file = kNoFile;
    std::size_t index = 0;  // in the file
  };
  struct File {
    std::string name;
    std::vector<std::string> tensors;
    std::filesystem::path path;
    std::unique_ptr<PackedLayout> layout;
    std::vector<std::uint32_t> sums;  // the disk engine looks at them on every read
    FileId id = -1;
  };

  const Weight& weight_of(const WeightInfo& info) const {
    assert(info.key >= 0 && static_cast<std::size_t>(info.key) < weights_.size());
    return weights_[static_cast<std::size_t>(info.key)];
  }

  WeightExtent packed_extent(const Weight& weight, std::uint64_t offset,
                             [[maybe_unused]] std::size_t bytes) const {
    const File& file = files_[weight.file];
    assert(file.id >= 0);  // prepare() was called
    const PackedTensor& packed = file.layout->tensors()[weight.index];
    assert(offset <= packed.bytes() && bytes <= packed.bytes() - offset);
    return {&disk_, file.id, packed.offset + offset};
  }

  void add(const WeightSpec& spec, const WeightInfo& dense, std::int32_t key) {
    const std::string& name = spec.name;
    Weight& weight = weights_.emplace_back();
    weight.dense = dense;
    weight.info = dense;
    weight.info.key = key;
    weight.info.dtype = spec.kept_as(options_.compression, dense.dtype);
    // A layer's small tensors go with it, so that all of it is read at one place.
    const bool is_dense = options_.compression == Compression::none;
    std::string of = is_dense && !dense.relaid ? std::string() : layer_of(name);
    if (of.empty() && (is_quantized(weight.info.dtype) || dense.relaid)) of = name;
    weight.info.relaid = false;
    if (of.empty()) return;
    of += ".packed";
    const auto known = std::ranges::find(files_, of, &File::name);
    weight.file = static_cast<std::size_t>(known - files_.begin());
    if (known == files_.end()) files_.push_back(File{of, {}, {}, nullptr, {}, -1});
    weight.index = files_[weight.file].tensors.size();
    files_[weight.file].tensors.push_back(name);
  }

  const Weight& weight_named(const std::string& name) const {
    return weights_[static_cast<std::size_t>(keys_.at(name))];
  }

  std::uint64_t dense_bytes(const File& file) const {
    std::uint64_t bytes = 0;
    for (const std::string& name : file.tensors) {
      const WeightInfo& dense = weight_named(name).dense;
      bytes += static_cast<std::uint64_t>(dense.rows) * row_bytes_of(dense.dtype, dense.columns);
    }
    return bytes;
  }

  // Gives every file its place and layout; returns those that are not there, having checked that
  // there is room for them.
  std::vector<File*> look_for_files(const std::string& origin, PackingState& state) {
    std::vector<File*> missing;
    std::uint64_t wanted = 0;
    for (File& file : files_) {
      std::vector<PackedTensor> tensors;
      for (const std::string& name : file.tensors) {
        const WeightInfo& info = weight_named(name).info;
        tensors.push_back({name, info.dtype, info.rows, info.columns, 0});
      }
      file.layout = std::make_unique<PackedLayout>(origin, std::move(tensors));
      file.path = state.folder / file.name;
      if (is_there(file.path)) continue;
      missing.push_back(&file);
      wanted += file.layout->file_bytes();
      state.total += dense_bytes(file);
    }
    if (missing.empty()) return missing;
    make_folder(state.folder);
    remove_dead_temporaries(state.folder);
    const std::uint64_t there = free_disk_bytes(state.folder);
    if (there < wanted) {
      throw CapacityError(fmt::format(
          "packed weights take {} bytes ({}) but folder {} has {} bytes ({}) free; free some, or "
          "choose another folder with --packed-dir (io.packed_directory)",
          wanted, human_bytes(wanted), state.folder.string(), there, human_bytes(there)));
    }
    return missing;
  }

  void pack(const File& file, RowPacker& packer, PackingState& state,
            const std::function<void(const PackingState&)>& progress) {
    const std::uint64_t before = state.done;
    // Another process may have packed it in the meantime.
    if (!is_there(file.path)) {
      PackedWriter writer(file.path, *file.layout);
      for (const std::string& name : file.tensors) {
        const Weight& weight = weight_named(name);
        const std::size_t dense_row = row_bytes_of(weight.dense.dtype, weight.dense.columns);
        const std::size_t row = row_bytes_of(weight.info.dtype, weight.info.columns);
        packer.pack(name, weight.dense, weight.info.dtype,
                    [&](const std::byte* data, std::size_t bytes) {
                      writer.append(data, bytes);
                      state.done += bytes / row * dense_row;
                      if (progress) progress(state);
                    });
      }
      writer.commit();
    }
    state.done = before + dense_bytes(file);
    if (progress) progress(state);
  }

  const Checkpoint& checkpoint_;
  StoredNames names_;
  WeightSource& dense_;
  DiskEngine& disk_;
  PackedOptions options_;
  std::unordered_map<std::string, std::int32_t> keys_;
  std::vector<Weight> weights_;
  std::vector<File> files_;
};

}  // namespace

bool needs_packing(const Checkpoint& checkpoint, const StoredNames& names,
                   Compression compression) {
  return compression != Compression::none || std::ranges::any_of(names, [&](const auto& name) {
           const TensorRecord* const record = checkpoint.find(name.second.tensor);
           return name.second.transposed ||
                  (record != nullptr && record->blocks != BlockFormat::none);
         });
}

std::unique_ptr<PackedSource> make_packed_source(const Checkpoint& checkpoint, StoredNames names,
                                                 WeightSource& dense, DiskEngine& disk,
                                                 PackedOptions options) {
  return std::make_unique<PackedCheckpoint>(checkpoint, std::move(names), dense, disk,
                                            std::move(options));
}

std::string packed_origin(const Checkpoint& checkpoint, const StoredNames& names,
                          Compression compression) {
  std::string text = fmt::format("{:016x}", checkpoint.digest());
  for (std::size_t i = 0; i < checkpoint.files().size(); ++i) {
    const std::filesystem::path& path = checkpoint.files()[i];
    std::error_code error;
    const auto time = std::filesystem::last_write_time(path, error);
    if (error) {
      throw InputError(fmt::format("cannot read the time of {}: {}; check the path", path.string(),
                                   error.message()));
    }
    text += fmt::format(" {} {}", checkpoint.file_bytes()[i], time.time_since_epoch().count());
    const InputFile file(path);
    for (const TensorRecord& tensor : checkpoint.tensors()) {
      if (static_cast<std::size_t>(tensor.file) == i) add_sample(text, file, tensor);
    }
  }
  for (const auto& [ours, stored] : names) {
    const auto& [first, piece, step, first_input] = stored.rows;
    text += fmt::format(" {} {} {} {} {}{}", ours, stored.tensor, first, piece, step,
                        stored.transposed ? " by columns" : "");
    if (stored.inputs > 0) text += fmt::format(" of {} from {} on", stored.inputs, first_input);
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  if (compression == Compression::none) {
    return fmt::format("dense-format{}-{:016x}{:016x}", kPackedFormat, hash.high64, hash.low64);
  }
  return fmt::format("{}-group{}-format{}-{:016x}{:016x}",
                     compression == Compression::eight_bit ? "8bit" : "4bit", kQuantGroup,
                     kPackedFormat, hash.high64, hash.low64);
}

}  // namespace sluice::offload
