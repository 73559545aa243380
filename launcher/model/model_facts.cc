#include "launcher/model/model_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/model/opened_model.h"
#include "launcher/model/traits_text.h"
#include "offload/checkpoint/gguf_file.h"
#include "stage/layer_split.h"
#include "stage/weight_groups.h"

namespace sluice::launcher {

namespace {

// Sums over the tensors of the specs, each checked against the checkpoint.
class Tally {
 public:
  Tally(const OpenedModel& model, offload::Compression compression)
      : model_(model), compression_(compression) {}

  std::uint64_t bytes_of(const offload::GroupSpec& spec) {
    std::uint64_t bytes = 0;
    for (const offload::WeightSpec& wanted : spec.tensors) {
      if (wanted.rows == 0) continue;
      const Place place = place_of(wanted);
      const DType dtype = wanted.kept_as(compression_, place.dtype);
      const auto rows = static_cast<std::uint64_t>(wanted.rows);
      const std::uint64_t elements = rows * static_cast<std::uint64_t>(wanted.columns);
      const std::uint64_t kept = rows * row_bytes_of(dtype, wanted.columns);
      bytes += kept;
      if (!counted_.insert(place.key).second) continue;
      parameters += elements;
      weight_bytes += kept;
      bytes_by_dtype_[dtype] += kept;
      has_blocks_ = has_blocks_ || place.blocks != offload::BlockFormat::none;
      elements_by_storage_[std::string(place.blocks == offload::BlockFormat::none
                                           ? name_of(place.dtype)
                                           : offload::name_of(place.blocks))] += elements;
    }
    return bytes;
  }

  std::string dtypes() const {
    std::vector<std::pair<std::uint64_t, DType>> shares;
    for (const auto& [dtype, bytes] : bytes_by_dtype_) shares.emplace_back(bytes, dtype);
    std::ranges::sort(shares, std::ranges::greater());
    std::string text;
    for (const auto& [bytes, dtype] : shares) {
      text += (text.empty() ? "" : ", ") + std::string(name_of(dtype));
    }
    return text;
  }

  /// Shares of the weights by what the file has them as; empty: it has no blocks.
  std::string blocks() const {
    if (!has_blocks_) return {};
    std::vector<std::pair<std::uint64_t, std::string>> shares;
    for (const auto& [name, elements] : elements_by_storage_) shares.emplace_back(elements, name);
    std::ranges::sort(shares, std::ranges::greater());
    std::string text;
    for (const auto& [elements, name] : shares) {
      const double percent =
          100.0 * static_cast<double>(elements) / static_cast<double>(parameters);
      text += fmt::format("{}{} {:.3g} %", text.empty() ? "" : ", ", name, percent);
    }
    return text;
  }

  std::uint64_t parameters = 0;
  std::uint64_t weight_bytes = 0;

 private:
  /// What is stored, or would be: a table that is used twice is one.
  using Key = std::pair<std::string, offload::RowRange>;
  struct Place {
    Key key;
    DType dtype;
    offload::BlockFormat blocks = offload::BlockFormat::none;
  };
  Place place_of(const offload::WeightSpec& wanted) const {
    if (!model_.checkpoint) return {{wanted.name, {}}, model_.folder.config.dtype};
    const offload::StoredWeight stored =
        offload::find_weight(*model_.checkpoint, model_.names, wanted);
    return {{stored.record->name, stored.rows}, stored.record->dtype, stored.record->blocks};
  }

  const OpenedModel& model_;
  offload::Compression compression_;
  std::set<Key> counted_;
  std::map<DType, std::uint64_t> bytes_by_dtype_;
  std::map<std::string, std::uint64_t> elements_by_storage_;
  bool has_blocks_ = false;
};

/// Of the experts that a token does not choose.
std::uint64_t idle_parameters(const stage::DecoderConfig& model) {
  const stage::MixtureTraits& mixture = model.mixture;
  std::uint64_t idle = 0;
  for (std::int32_t layer = 0; mixture.experts > 0 && layer < model.layers; ++layer) {
    if (!model.has_experts(layer)) continue;
    const offload::GroupSpec group = stage::mlp_group(model, layer);
    std::uint64_t expert = 0;
    for (std::size_t i = 0; i < stage::kExpertTensorCount; ++i) {
      const offload::WeightSpec& tensor = group.tensors[stage::kMlpTensorCount + i];
      expert +=
          static_cast<std::uint64_t>(tensor.rows) * static_cast<std::uint64_t>(tensor.columns);
    }
    idle += expert * static_cast<std::uint64_t>(mixture.experts - mixture.router.chosen);
  }
  return idle;
}

/// The name of a stored head that is a copy of the token table; empty: there is none.
std::string copied_head(const OpenedModel& model) {
  if (!model.folder.config.head.tied || !model.checkpoint) return {};
  const auto head = model.names.find("head.tokens.weight");
  const auto table = model.names.find("embedding.tokens.weight");
  const bool is_copy = head != model.names.end() && table != model.names.end() &&
                       head->second.tensor != table->second.tensor &&
                       model.checkpoint->find(head->second.tensor) != nullptr;
  return is_copy ? head->second.tensor : std::string();
}

std::vector<std::string> remarks_on(const stage::DecoderConfig& model, const std::string& copy) {
  std::vector<std::string> remarks = traits_in_words(model);
  if (!copy.empty()) {
    remarks.push_back(copy + " is there but is not read: the embedding is the head");
  }
  return remarks;
}

/// Without a checkpoint where the folder holds none: then all is what config.json says.
OpenedModel open_what_is_there(const std::string& model) {
  ModelFolder folder = open_model(model);
  if (!folder.path.empty() && offload::Checkpoint::is_in(folder.path))
    return open_checkpoint(std::move(folder));
  return {std::move(folder), std::nullopt, {}};
}

}  // namespace

ModelFacts read_model_facts(const std::string& model, offload::Compression compression) {
  ModelFacts facts;
  const OpenedModel opened = open_what_is_there(model);
  facts.folder = opened.folder;
  const stage::DecoderConfig& config = facts.folder.config;
  if (opened.checkpoint) {
    facts.files = opened.checkpoint->files();
    for (const std::uint64_t bytes : opened.checkpoint->file_bytes()) facts.file_bytes += bytes;
    facts.format = offload::is_gguf(facts.files.front())               ? "GGUF"
                   : facts.files.front().extension() == ".safetensors" ? "safetensors"
                                                                       : "PyTorch";
  }

  Tally tally(opened, compression);
  facts.embedding_bytes = tally.bytes_of(stage::embedding_group(config));
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    facts.layer_bytes.push_back(tally.bytes_of(stage::layer_group(config, layer)));
  }
  facts.head_bytes = tally.bytes_of(stage::head_group(config));
  facts.parameters = tally.parameters;
  facts.active_parameters = tally.parameters - idle_parameters(config);
  facts.weight_bytes = tally.weight_bytes;
  facts.dtypes = tally.dtypes();
  facts.blocks = tally.blocks();
  const auto hidden = static_cast<std::uint64_t>(config.hidden);
  facts.kv_elements_per_token = 2 * static_cast<std::uint64_t>(config.attention.kv_width()) *
                                static_cast<std::uint64_t>(config.layers);
  facts.activation_bytes_per_token = hidden * size_of(DType::f32);
  facts.remarks = remarks_on(config, copied_head(opened));
  return facts;
}

std::vector<StageFit> fit_weights(const ModelFacts& facts, std::uint64_t device_memory,
                                  std::uint64_t host_memory, std::int32_t stages) {
  if (stages < 1) throw ConfigError(fmt::format("stages is {}, not 1 or more", stages));
  if (std::cmp_greater(stages, facts.layer_bytes.size())) {  // before anything is sized by it
    throw ConfigError(fmt::format("{} stages are more than the model's {} layers; use fewer",
                                  stages, facts.layer_bytes.size()));
  }
  std::vector<stage::StageConfig> split(static_cast<std::size_t>(stages));
  stage::split_layers(split, facts.folder.config.layers,
                      stage::decode_weights(facts.folder.config));

  std::vector<StageFit> fits;
  for (std::size_t i = 0; i < split.size(); ++i) {
    StageFit fit{.first_layer = split[i].first_layer, .layers = split[i].layers};
    std::vector<std::uint64_t> parts(facts.layer_bytes.begin() + fit.first_layer,
                                     facts.layer_bytes.begin() + fit.first_layer + fit.layers);
    if (i == 0) parts.push_back(facts.embedding_bytes);
    if (i + 1 == split.size()) parts.push_back(facts.head_bytes);
    for (const std::uint64_t bytes : parts) fit.weight_bytes += bytes;

    const std::uint64_t device = device_memory == 0 ? UINT64_MAX : device_memory;
    const std::uint64_t host = host_memory == 0 ? UINT64_MAX : host_memory;
    if (fit.weight_bytes > device) fit.slot_bytes = 2 * *std::ranges::max_element(parts);
    fit.fits = fit.slot_bytes <= device;
    fit.device_bytes = std::min(fit.weight_bytes, fit.fits ? device - fit.slot_bytes : 0);
    fit.host_bytes = std::min(fit.weight_bytes - fit.device_bytes, host);
    fit.disk_bytes = fit.weight_bytes - fit.device_bytes - fit.host_bytes;
    if (device_memory != 0 && fit.fits) {
      fit.device_left = device_memory - fit.slot_bytes - fit.device_bytes;
    }
    fits.push_back(fit);
  }
  return fits;
}

}  // namespace sluice::launcher
