#include "launcher/model/gguf_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "launcher/json/json.h"
#include "launcher/model/config_reader.h"
#include "launcher/model/families/pages.h"
#include "launcher/tokenizer/gguf_vocabulary.h"
#include "offload/checkpoint/checkpoint.h"
#include "offload/checkpoint/gguf_file.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

using offload::Checkpoint;
using offload::GgufFile;
using offload::TensorRecord;

constexpr std::string_view kTokenTable = "token_embd.weight";

/// Asks for the keys of the file's architecture: "llama.block_count".
class Metadata {
 public:
  explicit Metadata(const GgufFile& file)
      : file_(file), architecture_(file.text("general.architecture").value_or("")) {}

  const GgufFile& file() const { return file_; }
  const std::string& architecture() const { return architecture_; }
  std::string key(const char* name) const { return fmt::format("{}.{}", architecture_, name); }

  std::optional<std::int32_t> integer(const char* name) const {
    const std::optional<std::int64_t> value = file_.integer(key(name));
    if (!value) return std::nullopt;
    if (*value < 0 || *value > INT32_MAX) {
      file_.fail(key(name), fmt::format("is {}, not from 0 to {}", *value, INT32_MAX));
    }
    return static_cast<std::int32_t>(*value);
  }
  /// An integer of 1 or more. An absent key gives `otherwise`, and is refused where that is absent.
  std::int32_t size(const char* name, std::optional<std::int32_t> otherwise = {}) const {
    const std::int32_t value = integer(name).value_or(otherwise.value_or(0));
    if (value < 1) file_.fail(key(name), "is not there, or not 1 or more");
    return value;
  }
  /// A finite number above 0; likewise.
  double positive(const char* name, std::optional<double> otherwise = {}) const {
    const double value = file_.real(key(name)).value_or(otherwise.value_or(0));
    if (!(value > 0) || !std::isfinite(value))
      file_.fail(key(name), "is not there, or not above 0");
    return value;
  }
  /// Refuses a value other than `only`, which is the one that can be run. The key may be absent.
  void require(const char* name, double only) const {
    const std::optional<double> value = file_.real(key(name));
    if (!value || *value == only) return;
    file_.fail(key(name), fmt::format("is {}, but only {} can run", *value, only));
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

/// Null where rotary positions are not scaled by a rule. A tensor may scale them as well.
Json scaling_of(const Metadata& metadata) {
  const std::string key = metadata.key("rope.scaling.type");
  const std::string_view type = metadata.file().text(key).value_or("none");
  for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor",
                           "rope.scaling.yarn_ext_factor"}) {
    metadata.require(name, 1);
  }
  if (type == "none") return {};
  if (type != "linear" && type != "yarn") {
    metadata.file().fail(key, fmt::format("is \"{}\", but only none, linear and yarn can run",
                                          offload::printable(type)));
  }
  Json scaling = {{"rope_type", type}, {"factor", metadata.positive("rope.scaling.factor")}};
  if (type == "linear") return scaling;
  if (const auto length = metadata.integer("rope.scaling.original_context_length")) {
    scaling["original_max_position_embeddings"] = *length;
  }
  scaling["beta_fast"] = metadata.positive("rope.scaling.yarn_beta_fast", 32);
  scaling["beta_slow"] = metadata.positive("rope.scaling.yarn_beta_slow", 1);
  return scaling;
}

const TensorRecord& token_table(const GgufFile& file, const Checkpoint& checkpoint) {
  const TensorRecord* const table = checkpoint.find(std::string(kTokenTable));
  const bool is_matrix = table != nullptr && table->shape.size() == 2;
  if (is_matrix && table->shape[0] <= INT32_MAX) return *table;
  file.fail(kTokenTable, "is not there, or is no table of tokens");
}

/// What a config.json of the same model would say.
Json config_of(const Metadata& metadata, const Checkpoint& checkpoint) {
  for (const char* name : {"expert_count", "attention.sliding_window"}) metadata.require(name, 0);
  if (!metadata.file().flag(metadata.key("attention.causal")).value_or(true)) {
    metadata.file().fail(metadata.key("attention.causal"), "is false, and only true can run");
  }
  const std::int32_t hidden = metadata.size("embedding_length");
  const std::int32_t heads = metadata.size("attention.head_count");
  const std::int32_t width = metadata.size("attention.key_length", hidden / heads);
  metadata.require("attention.value_length", width);
  metadata.require("rope.dimension_count", width);
  const double base = metadata.positive("rope.freq_base", 10000.0);
  if (base <= 1) metadata.file().fail(metadata.key("rope.freq_base"), "is not above 1");
  Json config = {
      {"model_type", metadata.architecture()},
      {"num_hidden_layers", metadata.size("block_count")},
      {"hidden_size", hidden},
      {"intermediate_size", metadata.size("feed_forward_length")},
      {"vocab_size", token_table(metadata.file(), checkpoint).shape[0]},
      {"max_position_embeddings", metadata.size("context_length")},
      {"num_attention_heads", heads},
      {"num_key_value_heads", metadata.size("attention.head_count_kv", heads)},
      {"head_dim", width},
      {"rms_norm_eps", metadata.positive("attention.layer_norm_rms_epsilon")},
      {"rope_theta", base},
      {"use_sliding_window", false},
      {"tie_word_embeddings", checkpoint.find("output.weight") == nullptr},
      {"mlp_bias", checkpoint.find("blk.0.ffn_up.bias") != nullptr},
  };
  Json scaling = scaling_of(metadata);
  if (!scaling.is_null()) config["rope_scaling"] = std::move(scaling);
  return config;
}

/// rope_freqs.weight has a divisor for each frequency: the form in which llama.cpp stores Llama 3's
/// scaling.
void divide_frequencies(const GgufFile& file, const Checkpoint& checkpoint,
                        stage::RotaryTraits& rotary) {
  constexpr const char* kName = "rope_freqs.weight";
  const TensorRecord* const record = checkpoint.find(kName);
  if (record == nullptr) return;
  const std::size_t pairs = rotary.frequencies.size();
  if (record->dtype != DType::f32 || record->blocks != offload::BlockFormat::none ||
      !record->problem.empty() || record->bytes != pairs * sizeof(float)) {
    file.fail(kName, fmt::format("is no list of {} numbers in F32", pairs));
  }
  const offload::InputFile part(checkpoint.files()[static_cast<std::size_t>(record->file)]);
  const std::string bytes = part.read(record->offset, record->bytes);
  for (std::size_t i = 0; i < pairs; ++i) {
    float factor = 0;
    std::memcpy(&factor, bytes.data() + i * sizeof(factor), sizeof(factor));
    if (!(factor > 0) || !std::isfinite(factor)) {
      file.fail(kName, "has a number that is not above 0");
    }
    rotary.frequencies[i] /= factor;
  }
}

/// Adds what only the tensors say, and llama.cpp's order of rows.
void adapt(const Metadata& metadata, const Checkpoint& checkpoint, stage::DecoderConfig& model) {
  const auto has = [&](const char* name) { return checkpoint.find(name) != nullptr; };
  model.attention.query_key_value_bias = has("blk.0.attn_q.bias");
  model.attention.output_bias = has("blk.0.attn_output.bias");
  stage::RotaryTraits& rotary = model.positions.rotary.front();
  // llama.cpp reorders the rows of query and key of `llama`: elements that turn together are
  // neighbours.
  rotary.neighbours = metadata.architecture() == "llama";
  divide_frequencies(metadata.file(), checkpoint, rotary);
  const TensorRecord* const first = checkpoint.find("blk.0.attn_q.weight");
  model.dtype = first == nullptr ? DType::f32 : first->dtype;
}

void read_ids(const GgufFile& file, ModelFolder& folder) {
  stage::DecoderConfig& model = folder.config;
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  if (has_vocabulary(file)) {
    const std::size_t tokens = file.texts(kTokens).value_or(std::vector<std::string_view>()).size();
    if (std::cmp_not_equal(tokens, model.vocabulary)) {
      file.fail(kTokens, fmt::format("has {} tokens, but {} has {} rows", tokens, kTokenTable,
                                     model.vocabulary));
    }
  }
  GgufIds ids = read_gguf_ids(file, model.vocabulary);
  if (ids.ends.empty()) file.fail("tokenizer.ggml.eos_token_id", "is not there");
  model.bos = ids.bos;
  model.eos = ids.ends.front();
  model.pad = ids.pad;
  folder.eos_ids = std::move(ids.ends);
}

}  // namespace

ModelFolder read_gguf_model(const std::filesystem::path& path) {
  const GgufFile file(path);
  const Metadata metadata(file);
  const Families& known = gguf_families();
  const auto family = std::ranges::find_if(
      known, [&](const Family* each) { return each->model_type == metadata.architecture(); });
  if (family == known.end()) {
    std::vector<std::string> names;
    for (const Family* each : known) names.emplace_back(each->model_type);
    file.fail("general.architecture",
              fmt::format("is \"{}\", but of GGUF files only {} can run",
                          offload::printable(metadata.architecture()), fmt::join(names, ", ")));
  }
  const Checkpoint checkpoint = Checkpoint::open(path);
  ModelFolder folder;
  folder.path = path;
  folder.family = *family;
  folder.config =
      folder.family->read_config(ConfigReader(file.name(), config_of(metadata, checkpoint)));
  adapt(metadata, checkpoint, folder.config);
  read_ids(file, folder);
  folder.config.validate(file.name());
  return folder;
}

}  // namespace sluice::launcher
