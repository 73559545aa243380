#include "launcher/model/adapter_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/model/config_reader.h"
#include "launcher/tokenizer/regex.h"
#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/weight_sample.h"

namespace sluice::launcher {

namespace {

using offload::printable;
using stage::AdapterPart;
using stage::LayerProduct;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kTensors = "adapter_model.safetensors";
constexpr std::uint64_t kMostConfigBytes = 16U << 20;
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kLower = ".lora_A.weight";
constexpr std::string_view kUpper = ".lora_B.weight";

/// A product of a layer, and which rows of the module's matrix it has.
struct Target {
  std::int32_t layer;
  LayerProduct product;
  offload::RowRange rows;
};

/// By the module's name, without what may stand before it.
using Targets = std::map<std::string, std::vector<Target>>;

/// Experts have no adapters: in their layers only attention's products may have one.
bool has_product(const stage::DecoderConfig& model, std::int32_t layer, LayerProduct product) {
  return product < LayerProduct::gate || !model.has_experts(layer);
}

Targets targets_of(const TensorNames& names, const stage::DecoderConfig& model) {
  Targets targets;
  for (const TensorNames::Entry& entry : names.entries()) {
    for (std::size_t i = 0; i < stage::kLayerProducts; ++i) {
      const auto product = static_cast<LayerProduct>(i);
      if (entry.ours != stage::product_name(product, "*")) continue;
      for (std::int32_t layer = 0; layer < model.layers; ++layer) {
        if (!has_product(model, layer, product)) continue;
        std::string module = entry.stored;
        module.replace(module.find('*'), 1, fmt::format("{}", layer));
        targets[module].push_back({layer, product, entry.rows});
      }
    }
  }
  return targets;
}

/// The values of "rank_pattern" or "alpha_pattern", by the first of its keys that a module's name
/// ends in (peft's get_pattern_key).
class Pattern {
 public:
  Pattern(const ConfigReader& config, const Json& object, const char* key) {
    const Json& values = object.member(key);
    if (values.is_null()) return;
    if (!values.is_object()) config.fail(fmt::format("{} must be an object", key));
    for (const auto& [pattern, value] : values.items()) {
      if (!value.is_number() || !(value.number() > 0)) {
        config.fail(fmt::format("{} of \"{}\" must be a number above 0", key, printable(pattern)));
      }
      entries_.emplace_back(Regex(fmt::format("^(?:.*\\.)?(?:{})$", pattern),
                                  fmt::format("{}: {}", config.where(), key)),
                            value.number());
    }
  }

  double find(const std::string& module, double fallback) const {
    for (const auto& [pattern, value] : entries_) {
      bool found = false;
      pattern.each(module, [&](Regex::Match) { found = true; });
      if (found) return value;
    }
    return fallback;
  }

 private:
  std::vector<std::pair<Regex, double>> entries_;
};

/// adapter_config.json, as far as it says what is computed.
class Settings {
 public:
  explicit Settings(const std::filesystem::path& path)
      : config_(path),
        object_(Json::parse_or_null(offload::read_text_file(path, kMostConfigBytes))),
        ranks_(config_, object_, "rank_pattern"),
        alphas_(config_, object_, "alpha_pattern"),
        rank_(config_.size("r", 8)),
        alpha_(config_.real("lora_alpha", 8)),
        by_root_(config_.flag("use_rslora", false)) {
    if (const std::string type = config_.text("peft_type", ""); type != "LORA") {
      config_.fail(fmt::format("peft_type is \"{}\", but only \"LORA\" can run", printable(type)));
    }
    if (const std::string bias = config_.text("bias", "none"); bias != "none") {
      config_.fail(fmt::format("bias is \"{}\", but only \"none\" can run", printable(bias)));
    }
    for (const char* key : {"use_dora", "lora_bias", "use_qalora"}) config_.refuse_flag(key);
    for (const char* key : {"modules_to_save", "layer_replication", "trainable_token_indices",
                            "target_parameters", "alora_invocation_tokens", "megatron_config"}) {
      refuse_unless_empty(key);
    }
    check_start();
  }

  const ConfigReader& config() const { return config_; }
  std::int32_t rank_of(const std::string& module) const {
    return static_cast<std::int32_t>(ranks_.find(module, rank_));
  }
  float scale_of(const std::string& module) const {
    const double rank = rank_of(module);
    return static_cast<float>(alphas_.find(module, alpha_) / (by_root_ ? std::sqrt(rank) : rank));
  }

 private:
  void refuse_unless_empty(const char* key) const {
    const Json& value = object_.member(key);
    if (value.is_null() || ((value.is_array() || value.is_object()) && value.empty())) return;
    config_.fail(fmt::format("{} is set, which cannot be run; train the adapter without it", key));
  }
  /// Some ways to begin change the model's own weights, too.
  void check_start() const {
    const Json& value = object_.member("init_lora_weights");
    if (!value.is_string()) return;
    const std::string& way = value.text();
    if (way == "gaussian" || way == "eva" || way == "orthogonal") return;
    config_.fail(
        fmt::format("init_lora_weights is \"{}\", which changes the model's own weights; "
                    "save it as a plain LoRA",
                    printable(way)));
  }

  ConfigReader config_;
  Json object_;
  Pattern ranks_;
  Pattern alphas_;
  std::int32_t rank_;
  double alpha_;
  bool by_root_;  // alpha / sqrt(r) in place of alpha / r
};

/// Reads one folder.
class FolderReader {
 public:
  FolderReader(const std::filesystem::path& folder, const ModelFolder& model)
      : model_(model),
        file_(folder / kTensors),
        settings_(folder / kConfig),
        names_(model.family->name_tensors(model.config)),
        targets_(targets_of(names_, model.config)) {
    if (!std::filesystem::exists(file_)) {
      throw InputError(fmt::format("{} is not there; save the adapter with safe_serialization=True",
                                   file_.string()));
    }
    result_.checkpoint = offload::Checkpoint::open(file_);
  }

  AdapterFolder read(stage::AdapterSpec& spec) {
    for (const auto& [module, tensors] : modules()) add(module, tensors, spec);
    if (spec.parts.empty()) {
      throw InputError(
          fmt::format("{} has no tensor; give the folder of an adapter", file_.string()));
    }
    offload::Digest digest;
    digest.add(spec.name);
    digest.add(offload::read_text_file(file_.parent_path() / kConfig, kMostConfigBytes));
    digest.add(result_.checkpoint.digest());
    digest.add(offload::sample_of(result_.checkpoint));
    result_.digest = digest.value();
    return std::move(result_);
  }

 private:
  struct Tensors {
    const offload::TensorRecord* lower = nullptr;
    const offload::TensorRecord* upper = nullptr;
  };

  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    throw InputError(fmt::format("{}: tensor \"{}\" {}", file_.string(), printable(tensor), what));
  }

  /// By name.
  std::map<std::string, Tensors> modules() const {
    std::map<std::string, Tensors> found;
    for (const offload::TensorRecord& tensor : result_.checkpoint.tensors()) {
      std::string_view name = tensor.name;
      const bool is_lower = name.ends_with(kLower);
      if (!name.starts_with(kPrefix) || (!is_lower && !name.ends_with(kUpper))) {
        fail(tensor.name, "is no lora_A.weight or lora_B.weight of a module; only these can run");
      }
      name.remove_prefix(kPrefix.size());
      name.remove_suffix(is_lower ? kLower.size() : kUpper.size());
      Tensors& of = found[std::string(name)];
      (is_lower ? of.lower : of.upper) = &tensor;
    }
    return found;
  }

  const std::vector<Target>& targets(const std::string& module, const std::string& tensor) const {
    std::vector<std::string> prefixes = names_.prefixes();
    prefixes.insert(prefixes.end(), {"", "model.", "transformer.", "model.decoder."});
    for (const std::string& prefix : prefixes) {
      if (!module.starts_with(prefix)) continue;
      const auto found = targets_.find(module.substr(prefix.size()));
      if (found != targets_.end()) return found->second;
    }
    std::set<std::string> ends;
    for (const auto& [name, products] : targets_) ends.insert(name.substr(name.rfind('.') + 1));
    fail(tensor, fmt::format("belongs to no product of a decoder layer of this model; adapters may "
                             "have {}, of {} layers",
                             fmt::join(ends, ", "), model_.config.layers));
  }

  void add(const std::string& module, const Tensors& tensors, stage::AdapterSpec& spec) {
    const offload::TensorRecord* const any = tensors.lower ? tensors.lower : tensors.upper;
    if (tensors.lower == nullptr || tensors.upper == nullptr) {
      fail(any->name, fmt::format("is there without its {}; the file is not whole",
                                  tensors.lower == nullptr ? "lora_A" : "lora_B"));
    }
    const std::int32_t rank = settings_.rank_of(module);
    const std::vector<std::int64_t>& shape = tensors.lower->shape;
    if (shape.size() != 2 || shape[0] != rank) {
      fail(tensors.lower->name, fmt::format("has the shape [{}], but {} says rank {}",
                                            fmt::join(shape, ", "), kConfig, rank));
    }
    for (const Target& target : targets(module, any->name)) {
      const AdapterPart part{target.layer, target.product, rank, settings_.scale_of(module)};
      const offload::WeightSpec lower = stage::lower_spec(model_.config, part);
      const offload::WeightSpec upper = stage::upper_spec(model_.config, part);
      if (result_.names.contains(lower.name)) {
        fail(any->name, "is there under another name, too; remove one of them");
      }
      result_.names[lower.name] = {tensors.lower->name, {}, false};
      result_.names[upper.name] = {tensors.upper->name, target.rows, false};
      offload::find_weight(result_.checkpoint, result_.names, lower);
      offload::find_weight(result_.checkpoint, result_.names, upper);
      spec.parts.push_back(part);
    }
  }

  const ModelFolder& model_;
  std::filesystem::path file_;
  Settings settings_;
  TensorNames names_;
  Targets targets_;
  AdapterFolder result_;
};

}  // namespace

std::uint64_t digest_of(const OpenedAdapters& adapters) {
  offload::Digest digest;
  for (const AdapterFolder& folder : adapters.folders) digest.add(folder.digest);
  return digest.value();
}

OpenedAdapters open_adapters(const std::vector<std::string>& texts, const ModelFolder& model) {
  OpenedAdapters opened;
  if (texts.empty()) return opened;
  if (model.path.extension() == ".gguf") {
    throw ConfigError(
        "--lora: a GGUF file has other names than adapters; give the model's folder "
        "in Hugging Face's form");
  }
  stage::AdapterSpecs specs;
  for (const std::string& text : texts) {
    const std::size_t border = text.find('=');
    if (border == std::string::npos || border == 0 || border + 1 == text.size()) {
      throw ConfigError(fmt::format("--lora {} is no NAME=DIR; write --lora NAME=DIR", text));
    }
    stage::AdapterSpec spec{text.substr(0, border), {}};
    const auto has_name = [&](const stage::AdapterSpec& one) { return one.name == spec.name; };
    if (std::ranges::any_of(specs, has_name)) {
      throw ConfigError(
          fmt::format("--lora gives {} twice; give each adapter a name of its own", spec.name));
    }
    opened.folders.push_back(FolderReader(text.substr(border + 1), model).read(spec));
    specs.push_back(std::move(spec));
  }
  opened.specs = std::make_shared<const stage::AdapterSpecs>(std::move(specs));
  return opened;
}

}  // namespace sluice::launcher
