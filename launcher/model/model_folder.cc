// Source of keys and defaults: transformers' configuration_opt.py (OPTConfig) and
// configuration_utils.py (tie_word_embeddings, torch_dtype).
#include "launcher/model/model_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/json/json.h"
#include "launcher/model/hub_cache.h"
#include "offload/checkpoint/digest.h"
#include "offload/checkpoint/input_file.h"
#include "offload/checkpoint/json_walk.h"

namespace sluice::launcher {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxConfigBytes = 4U << 20U;
constexpr std::size_t kMaxDepth = 16;

// An object of a JSON file whose values are asked for by key and type.
class ConfigReader {
 public:
  explicit ConfigReader(const fs::path& path) : where_(path.string()) {
    const std::string text = offload::read_text_file(path, kMaxConfigBytes);
    // The walk refuses what the parser would let pass: duplicate keys, depth, NUL bytes.
    offload::walk_json(text, where_, kMaxDepth,
                       [](offload::JsonPath, const offload::JsonValue&) {});
    object_ = Json::parse(text);
    if (!object_.is_object()) fail("it is no JSON object");
  }

  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: {}; fetch the model again or mend the file", where_, what));
  }

  /// Null: the key is absent, or null where Hugging Face writes null for "none".
  const Json* find(const char* key) const {
    const Json* value = object_.find(key);
    if (value == nullptr) return nullptr;
    const bool nullable = std::ranges::find(kNullable, std::string_view(key)) != kNullable.end();
    return nullable && value->is_null() ? nullptr : value;
  }
  std::int32_t integer(const char* key, std::int32_t fallback) const {
    const Json* value = find(key);
    return value == nullptr ? fallback : integer_of(key, *value);
  }
  /// An integer of 1 or more.
  std::int32_t size(const char* key, std::int32_t fallback) const {
    const std::int32_t value = integer(key, fallback);
    if (value < 1) fail(fmt::format("{} is {}, not 1 or more", key, value));
    return value;
  }
  bool flag(const char* key, bool fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) wrong(key, *value, "true or false");
    return value->boolean();
  }
  std::string text(const char* key, const char* fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) wrong(key, *value, "a string");
    return value->text();
  }
  /// One integer, or a list of them that is not empty.
  std::vector<std::int32_t> integers(const char* key, std::vector<std::int32_t> fallback) const {
    const Json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_array()) return {integer_of(key, *value)};
    std::vector<std::int32_t> result;
    for (const Json& item : *value) result.push_back(integer_of(key, item));
    if (result.empty()) wrong(key, *value, "an integer or a list of some");
    return result;
  }

 private:
  static constexpr std::array<std::string_view, 6> kNullable = {
      "word_embed_proj_dim", "torch_dtype",  "dtype",
      "bos_token_id",        "eos_token_id", "pad_token_id"};

  std::int32_t integer_of(const char* key, const Json& value) const {
    if (!value.is_integer_in(INT32_MIN, INT32_MAX)) wrong(key, value, "an integer of 32 bits");
    return static_cast<std::int32_t>(value.integer());
  }
  [[noreturn]] void wrong(const char* key, const Json& value, const char* wanted) const {
    fail(fmt::format("{} is {}, not {}", key, offload::printable(value.dump()), wanted));
  }

  std::string where_;
  Json object_;
};

kernels::Activation activation_of(const ConfigReader& config) {
  const std::string name = config.text("activation_function", "relu");
  if (name == "relu") return kernels::Activation::relu;
  if (name == "gelu") return kernels::Activation::gelu;
  config.fail(fmt::format("activation_function is \"{}\", but only relu and gelu are supported",
                          offload::printable(name)));
}

DType dtype_of(const ConfigReader& config) {
  // Newer versions of transformers write "dtype".
  const std::string name = config.text("torch_dtype", config.text("dtype", "float32").c_str());
  if (name == "float32") return DType::f32;
  if (name == "float16") return DType::f16;
  if (name == "bfloat16") return DType::bf16;
  config.fail(
      fmt::format("torch_dtype is \"{}\", but only float32, float16 and bfloat16 are "
                  "supported",
                  offload::printable(name)));
}

stage::DecoderConfig read_config(const ConfigReader& config) {
  const std::string type = config.text("model_type", "");
  if (type != "opt") {
    config.fail(fmt::format("model_type is \"{}\", but only OPT models (\"opt\") are supported",
                            offload::printable(type)));
  }
  if (config.find("quantization_config") != nullptr) {
    config.fail("quantization_config: quantised checkpoints are not read; use the original model");
  }
  stage::DecoderConfig model;
  model.layers = config.size("num_hidden_layers", 12);
  model.hidden = config.size("hidden_size", 768);
  model.vocabulary = config.size("vocab_size", 50272);
  model.max_positions = config.size("max_position_embeddings", 2048);
  model.embedding.width = config.size("word_embed_proj_dim", model.hidden);
  model.positions.offset = 2;  // OPTLearnedPositionalEmbedding: two rows are never used
  const bool norm_before = config.flag("do_layer_norm_before", true);
  model.norm.place = norm_before ? stage::NormPlace::before : stage::NormPlace::after;
  model.norm.affine = config.flag("layer_norm_elementwise_affine", true);
  const bool bias = config.flag("enable_bias", true);
  const std::int32_t heads = config.size("num_attention_heads", 12);
  if (model.hidden % heads != 0) {
    config.fail(fmt::format("hidden_size {} is no multiple of num_attention_heads {}", model.hidden,
                            heads));
  }
  model.attention = {heads, heads, model.hidden / heads, bias, bias, 0};
  model.attention.scale = 1.0F / std::sqrt(static_cast<float>(model.attention.head_width));
  model.mlp = {config.size("ffn_dim", 3072), activation_of(config), bias};
  model.head.norm = norm_before && !config.flag("_remove_final_layer_norm", false);
  model.head.tied = config.flag("tie_word_embeddings", true);
  model.dtype = dtype_of(config);
  model.bos = config.integer("bos_token_id", 2);
  model.eos = config.integers("eos_token_id", {2}).front();
  model.pad = config.integer("pad_token_id", 1);
  model.validate(config.where());
  return model;
}

std::vector<std::int32_t> read_eos_ids(const fs::path& folder, const ConfigReader& config,
                                       const stage::DecoderConfig& model) {
  const std::vector<std::int32_t> of_model = config.integers("eos_token_id", {model.eos});
  const fs::path path = folder / "generation_config.json";
  std::error_code error;
  const bool there = fs::exists(fs::symlink_status(path, error));
  const ConfigReader generation = there ? ConfigReader(path) : config;
  const std::vector<std::int32_t> ids = generation.integers("eos_token_id", of_model);
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= model.vocabulary) {
      generation.fail(fmt::format("eos_token_id {} is no id below the model's vocab_size {}", id,
                                  model.vocabulary));
    }
  }
  return ids;
}

std::uint64_t digest_of(const ModelFolder& folder) {
  const stage::DecoderConfig& model = folder.config;
  offload::Digest digest;
  for (const std::int32_t value :
       {model.layers, model.hidden, model.vocabulary, model.max_positions, model.embedding.width,
        model.positions.offset, model.attention.query_heads, model.attention.kv_heads,
        model.attention.head_width, model.mlp.width, model.bos, model.eos, model.pad}) {
    digest.add(static_cast<std::uint64_t>(value));
  }
  for (const bool value : {model.norm.place == stage::NormPlace::before, model.norm.affine,
                           model.attention.query_key_value_bias, model.attention.output_bias,
                           model.mlp.bias, model.head.norm, model.head.tied}) {
    digest.add(static_cast<std::uint64_t>(value));
  }
  digest.add(fmt::format("{} {}", model.norm.epsilon, model.attention.scale));
  digest.add(static_cast<std::uint64_t>(model.mlp.activation));
  digest.add(static_cast<std::uint64_t>(model.dtype));
  for (const std::int32_t id : folder.eos_ids) digest.add(static_cast<std::uint64_t>(id));
  return digest.value();
}

fs::path folder_of(const std::string& model) {
  std::error_code error;
  if (fs::is_directory(model, error)) return model;
  if (fs::exists(model, error)) {
    throw InputError(fmt::format("{} is no folder; give the folder the model's files are in",
                                 offload::printable(model)));
  }
  if (is_hub_id(model)) return find_in_hub_cache(model);
  throw InputError(
      fmt::format("there is no folder {}; give a model's folder or its name on the "
                  "Hugging Face hub, such as facebook/opt-1.3b",
                  offload::printable(model)));
}

}  // namespace

ModelFolder open_model(const std::string& model) {
  ModelFolder folder;
  folder.path = folder_of(model);
  const fs::path path = folder.path / "config.json";
  std::error_code error;
  if (!fs::exists(path, error)) {
    const std::string hint = download_hint(folder.path);
    throw InputError(
        fmt::format("{} has no config.json{}", folder.path.string(),
                    hint.empty() ? "; give the folder of a model in Hugging Face format" : hint));
  }
  const ConfigReader config(path);
  folder.config = read_config(config);
  folder.eos_ids = read_eos_ids(folder.path, config, folder.config);
  folder.digest = digest_of(folder);
  return folder;
}

}  // namespace sluice::launcher
