#include "offload/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/gguf_file.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/json_walk.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kMaxIndexBytes = 64U << 20U;
constexpr std::size_t kMaxShards = 10'000;

using Reader = std::vector<TensorRecord> (*)(const std::filesystem::path&, std::int32_t);
struct Format {
  const char* file;  // one file, or else shards listed in `index`
  const char* index;
  Reader read;
};
constexpr std::array kFormats = {
    Format{"model.safetensors", "model.safetensors.index.json", read_safetensors},
    Format{"pytorch_model.bin", "pytorch_model.bin.index.json", read_torch_zip},
};

constexpr std::string_view kLayerFile = "layer_";
constexpr std::string_view kLayerFileEnd = "-model_00-model_states.pt";

bool is_layer_file(const std::string& name) {
  if (!name.starts_with(kLayerFile) || !name.ends_with(kLayerFileEnd)) return false;
  const std::size_t end = name.size() - std::min(kLayerFileEnd.size(), name.size());
  return end > kLayerFile.size() && name.find_first_not_of("0123456789", kLayerFile.size()) == end;
}

/// The files of a Megatron folder, by name; empty: it is none.
std::vector<std::filesystem::path> layer_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path& place : {folder, folder / "weights"}) {
    std::error_code error;
    std::filesystem::directory_iterator entry(place, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      if (is_layer_file(entry->path().filename().string())) files.push_back(entry->path());
    }
    if (!files.empty()) break;
  }
  std::ranges::sort(files);
  return files;
}

// A dangling link (a half-finished download) counts as there, so that opening it names it.
bool exists_in(const std::filesystem::path& folder, const char* name) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(folder / name, error));
}

// Which shard each tensor is in; by name.
using WeightMap = std::map<std::string, std::string>;

// Shards lie in the folder itself: an index must not lead a reader anywhere else.
bool plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

WeightMap read_index(const std::filesystem::path& path) {
  const std::string where = path.string();
  WeightMap weight_map;
  walk_json(
      read_text_file(path, kMaxIndexBytes), where, 8, [&](JsonPath at, const JsonValue& value) {
        if (at.size() != 2 || at[0] != "weight_map") return;
        if (value.kind != JsonValue::Kind::text || !plain_file_name(std::string(value.text))) {
          throw InputError(
              fmt::format("{}: weight_map gives no plain file name for \"{}\"; "
                          "fetch the file again",
                          where, printable(at[1])));
        }
        weight_map.emplace(at[1], value.text);
      });
  if (weight_map.empty()) {
    throw InputError(
        fmt::format("{}: no weight_map that names tensors; fetch the file again", where));
  }
  return weight_map;
}

}  // namespace

class CheckpointBuilder {
 public:
  explicit CheckpointBuilder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  Checkpoint build() {
    if (is_gguf(folder_)) {
      add_gguf();
      return finish();
    }
    if (folder_.extension() == ".safetensors" && std::filesystem::is_regular_file(folder_)) {
      result_.tensors_ = read_file(folder_, read_safetensors);
      return finish();
    }
    for (const Format& format : kFormats) {
      if (exists_in(folder_, format.file)) {
        result_.tensors_ = read_file(folder_ / format.file, format.read);
        return finish();
      }
      if (exists_in(folder_, format.index)) {
        add_shards(folder_ / format.index, format.read);
        return finish();
      }
    }
    if (add_layer_files()) return finish();
    throw InputError(fmt::format(
        "{} holds no weights: looked for model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin and pytorch_model.bin.index.json; give the folder of a model in Hugging "
        "Face format",
        folder_.string()));
  }

 private:
  /// False: there are none.
  bool add_layer_files() {
    const std::vector<std::filesystem::path> files = layer_files(folder_);
    for (const std::filesystem::path& file : files) {
      const std::string name = file.filename().string();
      const std::string layer = name.substr(0, name.size() - kLayerFileEnd.size()) + ".";
      for (TensorRecord& record : read_file(file, read_torch_zip)) {
        record.name = layer + record.name;
        result_.tensors_.push_back(std::move(record));
      }
    }
    return !files.empty();
  }

  void add_gguf() {
    const std::vector<std::filesystem::path> parts = gguf_parts(GgufFile(folder_));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const GgufFile part(parts[i]);
      if (part.integer("split.no").value_or(0) != static_cast<std::int64_t>(i)) {
        part.fail("split.no", fmt::format("is not {}, as the file's name says", i));
      }
      result_.files_.push_back(parts[i]);
      result_.file_bytes_.push_back(part.file_bytes());
      for (TensorRecord record : part.tensors()) {
        record.file = static_cast<std::int32_t>(i);
        result_.tensors_.push_back(std::move(record));
      }
    }
    std::ranges::sort(result_.tensors_, {}, &TensorRecord::name);
    const auto twice = std::ranges::adjacent_find(result_.tensors_, {}, &TensorRecord::name);
    if (twice == result_.tensors_.end()) return;
    throw InputError(fmt::format("the files of {} have the tensor \"{}\" twice; fetch them again",
                                 folder_.string(), printable(twice->name)));
  }

  std::vector<TensorRecord> read_file(const std::filesystem::path& path, Reader read) {
    const auto file = static_cast<std::int32_t>(result_.files_.size());
    result_.file_bytes_.push_back(InputFile(path).bytes());
    result_.files_.push_back(path);
    return read(path, file);
  }

  // The index decides: what it gives to another shard, or does not name, is not of the model.
  void add_shard(const std::string& shard, const WeightMap& weight_map, Reader read) {
    for (TensorRecord& record : read_file(folder_ / shard, read)) {
      const auto entry = weight_map.find(record.name);
      if (entry == weight_map.end() || entry->second != shard) continue;
      result_.promised_.erase(record.name);
      result_.tensors_.push_back(std::move(record));
    }
  }

  void add_shards(const std::filesystem::path& index, Reader read) {
    const WeightMap weight_map = read_index(index);
    std::set<std::string> shards;
    for (const auto& [name, shard] : weight_map) shards.insert(shard);
    result_.promised_ = weight_map;
    if (shards.size() > kMaxShards) {
      throw InputError(fmt::format("{} names {} shards, more than any model has; fetch it again",
                                   index.string(), shards.size()));
    }
    for (const std::string& shard : shards) {
      std::error_code error;
      if (!std::filesystem::exists(folder_ / shard, error)) {
        throw InputError(fmt::format("{} names the shard {}, which is not there; fetch it into {}",
                                     index.string(), printable(shard), folder_.string()));
      }
      add_shard(shard, weight_map, read);
    }
  }

  Checkpoint finish() {
    std::ranges::sort(result_.tensors_, {}, &TensorRecord::name);
    return std::move(result_);
  }

  std::filesystem::path folder_;  // or a GGUF or safetensors file
  Checkpoint result_;
};

Checkpoint Checkpoint::open(const std::filesystem::path& path) {
  return CheckpointBuilder(path).build();
}

bool Checkpoint::is_in(const std::filesystem::path& path) {
  if (is_gguf(path)) return exists_in(path.parent_path(), path.filename().c_str());
  const bool is_known = std::ranges::any_of(kFormats, [&](const Format& format) {
    return exists_in(path, format.file) || exists_in(path, format.index);
  });
  return is_known || !layer_files(path).empty();
}

const TensorRecord* Checkpoint::find(const std::string& name) const {
  const auto at = std::ranges::lower_bound(tensors_, name, {}, &TensorRecord::name);
  return at == tensors_.end() || at->name != name ? nullptr : &*at;
}

const std::string* Checkpoint::promised(const std::string& name) const {
  const auto at = promised_.find(name);
  return at == promised_.end() ? nullptr : &at->second;
}

std::uint64_t Checkpoint::digest() const {
  Digest digest;
  // Names only: the same checkpoint may lie in another folder on another host.
  for (std::size_t i = 0; i < files_.size(); ++i) {
    digest.add(files_[i].filename().string());
    digest.add(file_bytes_[i]);
  }
  for (const TensorRecord& tensor : tensors_) {
    digest.add(tensor.name);
    digest.add(name_of(tensor.dtype));
    if (tensor.blocks != BlockFormat::none) digest.add(name_of(tensor.blocks));
    digest.add(tensor.shape.size());
    for (const std::int64_t extent : tensor.shape) digest.add(static_cast<std::uint64_t>(extent));
    digest.add(static_cast<std::uint64_t>(tensor.file));
    digest.add(tensor.offset);
    digest.add(tensor.bytes);
  }
  return digest.value();
}

}  // namespace sluice::offload
