#include "launcher/model/model_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/device/error.h"
#include "launcher/model/config_reader.h"
#include "launcher/model/gguf_model.h"
#include "launcher/model/hub_cache.h"
#include "launcher/model/published_shapes.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/gguf_file.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

namespace fs = std::filesystem;

std::optional<ConfigReader> open_generation_config(const fs::path& folder) {
  const fs::path path = folder / "generation_config.json";
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return std::nullopt;
  return ConfigReader(path);
}

std::vector<std::int32_t> read_eos_ids(const ConfigReader& generation, const ConfigReader& config,
                                       const stage::DecoderConfig& model) {
  const std::vector<std::int32_t> of_model = config.integers("eos_token_id", {model.eos});
  const std::vector<std::int32_t> ids = generation.integers("eos_token_id", of_model);
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= model.vocabulary) {
      generation.fail(fmt::format("eos_token_id {} is no id below the model's vocab_size {}", id,
                                  model.vocabulary));
    }
  }
  return ids;
}

/// A number from `low` to `high`, or nothing where the key is absent or null.
std::optional<float> read_number(const ConfigReader& config, const char* key, double low,
                                 double high) {
  if (!config.has(key)) return std::nullopt;
  const double value = config.real(key, NAN, IfNull::absent);
  if (std::isnan(value)) return std::nullopt;
  if (value < low || value > high) {
    config.fail(fmt::format("{} is {}, not from {} to {}", key, value, low, high));
  }
  return static_cast<float>(value);
}

/// As transformers' generate() reads it: without do_sample temperature, top_k, top_p and
/// min_p are idle.
/// An absent top_k is none, as vLLM has it.
ModelSamplingDefaults read_sampling(const ConfigReader& generation) {
  ModelSamplingDefaults sampling;
  const auto read_count = [&](const char* key) -> std::optional<std::int32_t> {
    const auto count = read_number(generation, key, 0, 1 << 20);
    if (!count) return std::nullopt;
    return static_cast<std::int32_t>(*count);
  };
  sampling.repetition_penalty = read_number(generation, "repetition_penalty", 0.01, 100);
  sampling.no_repeat_ngram = read_count("no_repeat_ngram_size");
  if (!generation.flag("do_sample", false, IfNull::absent)) return sampling;
  sampling.temperature = read_number(generation, "temperature", 0, 100).value_or(1.0F);
  sampling.top_p = read_number(generation, "top_p", 1e-6, 1);
  sampling.min_p = read_number(generation, "min_p", 0, 1);
  sampling.top_k = read_count("top_k");
  return sampling;
}

/// The GGUF file in `folder` where that has no other weights; else the folder.
fs::path or_its_gguf(const fs::path& folder) {
  if (offload::Checkpoint::is_in(folder)) return folder;
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (offload::is_gguf(entry->path()) && !offload::is_later_gguf_part(name)) {
      names.push_back(name);
    }
  }
  if (names.empty()) return folder;
  if (names.size() == 1) return folder / names.front();
  std::ranges::sort(names);
  for (std::string& name : names) name = offload::printable(name);
  throw InputError(fmt::format("{} has several GGUF models ({}); give the path of one of them",
                               folder.string(), fmt::join(names, ", ")));
}

}  // namespace

namespace {

/// Nothing of models that have none of it: their runs go on to have the digests that they had.
void add_mixture(const stage::DecoderConfig& model, offload::Digest& digest) {
  const stage::AttentionTraits& attention = model.attention;
  if (attention.whole_norm || attention.clip != 0) {
    digest.add(fmt::format("whole norm {} clip {}", attention.whole_norm, attention.clip));
  }
  if (model.residual_scale != 1.0F || model.head.scale != 1.0F) {
    digest.add(fmt::format("residual {} logits {}", model.residual_scale, model.head.scale));
  }
  const stage::MixtureTraits& mixture = model.mixture;
  if (mixture.experts == 0) return;
  const kernels::RouterRule& router = mixture.router;
  digest.add(fmt::format("experts {} {} {} {} {} {} {} {}; router {} {} {} {} {} {} {} {}",
                         mixture.experts, mixture.width, mixture.router_bias, mixture.correction,
                         mixture.shared_width, mixture.shared_switch, mixture.layers.size(),
                         std::string(mixture.layers.begin(), mixture.layers.end()), router.chosen,
                         static_cast<int>(router.score), router.normalised, router.scale,
                         router.groups, router.kept_groups, router.group_best, router.nearness));
}

}  // namespace

std::uint64_t digest_of(const ModelFolder& folder) {
  const stage::DecoderConfig& model = folder.config;
  offload::Digest digest;
  digest.add(folder.family == nullptr ? "" : folder.family->model_type);
  for (const std::int32_t value :
       {model.layers, model.hidden, model.vocabulary, model.max_positions, model.embedding.width,
        model.positions.offset, model.attention.query_heads, model.attention.kv_heads,
        model.attention.head_width, model.mlp.width, model.bos, model.eos, model.pad,
        model.norm.kind == stage::NormKind::rms ? 1 : 0, static_cast<std::int32_t>(model.residual),
        static_cast<std::int32_t>(model.norm.place),
        static_cast<std::int32_t>(model.positions.kind)}) {
    digest.add(static_cast<std::uint64_t>(value));
  }
  for (const std::vector<std::int32_t>* list :
       {&model.attention.windows, &model.positions.rotary_of_layer}) {
    digest.add(list->size());
    for (const std::int32_t value : *list) digest.add(static_cast<std::uint64_t>(value));
  }
  for (const stage::RotaryTraits& rotary : model.positions.rotary) {
    digest.add(fmt::format("{} {} {} {} {} {}", rotary.width, rotary.neighbours, rotary.factor,
                           rotary.long_after, fmt::join(rotary.frequencies, " "),
                           fmt::join(rotary.long_frequencies, " ")));
  }
  for (const bool value :
       {model.norm.affine, model.norm.bias, model.norm.in_first_layer, model.embedding.norm,
        model.embedding.zero_filled, model.attention.query_key_value_bias,
        model.attention.output_bias, model.attention.query_key_norm, model.attention.scale_by_layer,
        model.mlp.bias, model.mlp.gated, model.head.norm, model.head.tied, model.head.bias,
        model.head.dense_projection}) {
    digest.add(static_cast<std::uint64_t>(value));
  }
  digest.add(fmt::format("{} {} {} {} {} {} {}", model.norm.epsilon, model.norm.weight_offset,
                         model.attention.scale, model.attention.soft_cap, model.positions.alibi,
                         model.embedding.scale, model.head.soft_cap));
  digest.add(static_cast<std::uint64_t>(model.mlp.activation));
  add_mixture(model, digest);
  digest.add(static_cast<std::uint64_t>(model.dtype));
  for (const std::int32_t id : folder.eos_ids) digest.add(static_cast<std::uint64_t>(id));
  return digest.value();
}

fs::path find_model_folder(const std::string& model) {
  std::error_code error;
  if (fs::is_directory(model, error)) return or_its_gguf(model);
  if (fs::exists(model, error)) {
    if (offload::is_gguf(model)) return model;
    throw InputError(
        fmt::format("{} is no folder and no .gguf file; give the folder the model's files "
                    "are in",
                    offload::printable(model)));
  }
  if (offload::is_gguf(model)) {
    throw InputError(fmt::format("there is no file {}; check the path", offload::printable(model)));
  }
  if (is_hub_id(model)) return or_its_gguf(find_in_hub_cache(model));
  throw InputError(
      fmt::format("there is no folder {}; give a model's folder, a .gguf file or a name on the "
                  "Hugging Face hub, such as facebook/opt-1.3b",
                  offload::printable(model)));
}

namespace {

/// The shape of a model that is known, but neither a folder here nor in the hub's cache.
std::optional<PublishedShape> shape_alone(const std::string& model) {
  std::error_code error;
  if (fs::exists(model, error) || (is_hub_id(model) && is_in_hub_cache(model))) return std::nullopt;
  std::optional<PublishedShape> shape = find_published_shape(model);
  // The cache has the hub's own spelling of the name.
  return shape && is_in_hub_cache(shape->name) ? std::nullopt : shape;
}

ModelFolder open_shape(const PublishedShape& shape, const Families& known) {
  ModelFolder folder;
  folder.published = shape.name;
  const ConfigReader config("the published config.json of " + shape.name, shape.config);
  folder.family = &family_of(config, known);
  folder.config = folder.family->read_config(config);
  folder.config.dtype = dtype_of(config);
  folder.config.validate(config.where());
  folder.eos_ids = read_eos_ids(config, config, folder.config);
  folder.digest = digest_of(folder);
  return folder;
}

/// As find_model_folder(). The refusal also names the known model that may have been meant.
fs::path find_folder(const std::string& model) {
  if (const auto shape = find_published_shape(model); shape && is_in_hub_cache(shape->name)) {
    std::error_code error;
    if (!fs::exists(model, error)) return find_in_hub_cache(shape->name);
  }
  try {
    return find_model_folder(model);
  } catch (const InputError& problem) {
    const std::string meant =
        is_hub_id(model) && is_in_hub_cache(model) ? std::string() : published_suggestion(model);
    if (meant.empty()) throw;
    throw InputError(problem.what() + meant);
  }
}

}  // namespace

ModelFolder open_model(const std::string& model, const Families& known) {
  if (const std::optional<PublishedShape> shape = shape_alone(model)) {
    return open_shape(*shape, known);
  }
  ModelFolder folder;
  folder.path = find_folder(model);
  if (offload::is_gguf(folder.path)) {
    folder = read_gguf_model(folder.path);
    folder.digest = digest_of(folder);
    return folder;
  }
  const fs::path path = folder.path / "config.json";
  std::error_code error;
  if (!fs::exists(path, error)) {
    const std::string hint = download_hint(folder.path);
    throw InputError(
        fmt::format("{} has no config.json{}", folder.path.string(),
                    hint.empty() ? "; give the folder of a model in Hugging Face format" : hint));
  }
  const ConfigReader config(path);
  folder.family = &family_of(config, known);
  if (config.has("quantization_config")) {
    config.fail("quantization_config: quantised checkpoints are not read; use the original model");
  }
  folder.config = folder.family->read_config(config);
  folder.config.dtype = dtype_of(config);
  folder.config.validate(config.where());
  const std::optional<ConfigReader> generation = open_generation_config(folder.path);
  folder.eos_ids = read_eos_ids(generation ? *generation : config, config, folder.config);
  if (generation) folder.sampling = read_sampling(*generation);
  folder.digest = digest_of(folder);
  return folder;
}

}  // namespace sluice::launcher
