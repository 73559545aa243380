#include "offload/checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "offload/checkpoint/digest.h"
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

// "a, b, c and 7 more"
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "\"" : ", \"") + printable(names[i]) + "\"";
  }
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

// Index and shard must agree about the model's tensors, in both directions.
void check_shard(const std::filesystem::path& index, const std::string& shard,
                 const WeightMap& weight_map, const std::vector<TensorRecord>& records) {
  std::set<std::string> present;
  std::vector<std::string> unnamed;
  for (const TensorRecord& record : records) {
    present.insert(record.name);
    const auto entry = weight_map.find(record.name);
    const bool named = entry != weight_map.end() && entry->second == shard;
    if (!named && is_model_tensor(canonical_name(record.name))) unnamed.push_back(record.name);
  }
  std::vector<std::string> missing;
  for (const auto& [name, file] : weight_map) {
    const bool wanted = file == shard && is_model_tensor(canonical_name(name));
    if (wanted && !present.contains(name)) missing.push_back(name);
  }
  if (!missing.empty()) {
    throw InputError(
        fmt::format("{} says that {} holds {}, but it does not; fetch both files again",
                    index.string(), shard, listed(missing)));
  }
  if (!unnamed.empty()) {
    throw InputError(fmt::format("{} holds {}, which {} does not say; fetch both files again",
                                 shard, listed(unnamed), index.string()));
  }
}

}  // namespace

class CheckpointBuilder {
 public:
  explicit CheckpointBuilder(std::filesystem::path folder) : folder_(std::move(folder)) {}

  Checkpoint build() {
    for (const Format& format : kFormats) {
      if (exists(format.file)) {
        add_file(folder_ / format.file, format.read);
        return finish();
      }
      if (exists(format.index)) {
        add_shards(folder_ / format.index, format.read);
        return finish();
      }
    }
    throw InputError(fmt::format(
        "{} holds no weights: looked for model.safetensors, model.safetensors.index.json, "
        "pytorch_model.bin and pytorch_model.bin.index.json; give the folder of a model in Hugging "
        "Face format",
        folder_.string()));
  }

 private:
  // A dangling link (a half-finished download) counts as there, so that opening it names it.
  bool exists(const char* name) const {
    std::error_code error;
    return std::filesystem::exists(std::filesystem::symlink_status(folder_ / name, error));
  }

  const std::vector<TensorRecord>& add_file(const std::filesystem::path& path, Reader read) {
    const auto file = static_cast<std::int32_t>(result_.files_.size());
    result_.file_bytes_.push_back(InputFile(path).bytes());
    result_.files_.push_back(path);
    shard_ = read(path, file);
    for (const TensorRecord& record : shard_) {
      sorted_.emplace_back(canonical_name(record.name), record);
    }
    return shard_;
  }

  void add_shards(const std::filesystem::path& index, Reader read) {
    const WeightMap weight_map = read_index(index);
    std::set<std::string> shards;
    for (const auto& [name, shard] : weight_map) shards.insert(shard);
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
      check_shard(index, shard, weight_map, add_file(folder_ / shard, read));
    }
  }

  Checkpoint finish() {
    std::ranges::sort(sorted_, {},
                      [](const auto& entry) -> const std::string& { return entry.first; });
    for (auto& [canonical, record] : sorted_) {
      if (!result_.canonical_.empty() && result_.canonical_.back() == canonical) {
        throw InputError(fmt::format(
            "{} has two tensors for {}: \"{}\" and \"{}\"; remove one of them", folder_.string(),
            printable(canonical), printable(result_.tensors_.back().name), printable(record.name)));
      }
      result_.canonical_.push_back(std::move(canonical));
      result_.tensors_.push_back(std::move(record));
    }
    return std::move(result_);
  }

  std::filesystem::path folder_;
  Checkpoint result_;
  std::vector<TensorRecord> shard_;  // of the file added last
  std::vector<std::pair<std::string, TensorRecord>> sorted_;
};

Checkpoint Checkpoint::open(const std::filesystem::path& folder) {
  return CheckpointBuilder(folder).build();
}

const TensorRecord* Checkpoint::find(const std::string& canonical_name) const {
  const auto at = std::ranges::lower_bound(canonical_, canonical_name);
  if (at == canonical_.end() || *at != canonical_name) return nullptr;
  return &tensors_[static_cast<std::size_t>(at - canonical_.begin())];
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
    digest.add(tensor.shape.size());
    for (const std::int64_t extent : tensor.shape) digest.add(static_cast<std::uint64_t>(extent));
    digest.add(static_cast<std::uint64_t>(tensor.file));
    digest.add(tensor.offset);
    digest.add(tensor.bytes);
  }
  return digest.value();
}

std::string canonical_name(const std::string& name) {
  std::string_view rest = name;
  for (const std::string_view prefix : {"model.", "decoder."}) {
    if (rest.starts_with(prefix)) rest.remove_prefix(prefix.size());
  }
  return std::string(rest);
}

bool is_model_tensor(const std::string& canonical_name) {
  constexpr std::array<std::string_view, 7> kStarts = {
      "layers.",      "embed_tokens.",     "embed_positions.", "project_in.",
      "project_out.", "final_layer_norm.", "lm_head."};
  return std::ranges::any_of(
      kStarts, [&](std::string_view start) { return canonical_name.starts_with(start); });
}

}  // namespace sluice::offload
