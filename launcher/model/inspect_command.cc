#include "launcher/model/inspect_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/config/sizes.h"
#include "launcher/json/json.h"
#include "launcher/model/model_facts.h"
#include "launcher/tokenizer/tokenizer_facts.h"

namespace sluice::launcher {

namespace {

std::string line(const char* label, const std::string& text) {
  return fmt::format("  {:<12} {}\n", label, text);
}

std::string layer_text(const std::vector<std::uint64_t>& layers) {
  const auto [least, most] = std::ranges::minmax(layers);
  return least == most ? format_size(most)
                       : fmt::format("{} to {}", format_size(least), format_size(most));
}

/// A model whose tokenizer cannot be used still answers prompts of token ids.
std::string tokenizer_text(const std::filesystem::path& folder) {
  if (folder.empty()) return "none is here";
  if (!Tokenizer::has_files(folder)) return "none: prompts must be token ids";
  try {
    return tokenizer_line(Tokenizer::open(folder));
  } catch (const InputError& problem) {
    return fmt::format("cannot be used: {}", problem.what());
  }
}

/// What becomes of llama.cpp's blocks.
std::string blocks_text(const ModelFacts& facts) {
  const bool exact = facts.dtypes.find('q') == std::string::npos;
  return fmt::format("{}; blocks become {}, packed once", facts.blocks,
                     exact ? "f32, exactly" : "groups of 64, rounded once more");
}

std::string facts_text(const std::string& name, const ModelFacts& facts) {
  const stage::DecoderConfig& model = facts.folder.config;
  std::string text = name + "\n";
  text += line("folder", facts.folder.path.empty()
                             ? "none: what follows is what its published config.json asks for"
                             : facts.folder.path.string());
  const bool grouped = model.attention.kv_heads != model.attention.query_heads;
  text += line(
      "model",
      fmt::format("{}: {} layers, hidden {}, {} heads of {}{}, ffn {}, vocabulary "
                  "{}, positions {}",
                  facts.folder.family->title, model.layers, model.hidden,
                  model.attention.query_heads, model.attention.head_width,
                  grouped ? fmt::format(" ({} for keys and values)", model.attention.kv_heads) : "",
                  model.mlp.width, model.vocabulary, model.max_positions));
  for (const std::string& remark : facts.remarks) text += line("", remark);
  text += line("tokenizer", tokenizer_text(facts.folder.path));
  text += line("ends with", fmt::format("token {}", fmt::join(facts.folder.eos_ids, ", ")));
  text += line("files", facts.folder.path.empty() ? "none"
                        : facts.files.empty()
                            ? "no weights are there: what follows is what config.json asks for"
                            : fmt::format("{} {} file{}, {}", facts.files.size(), facts.format,
                                          facts.files.size() == 1 ? "" : "s",
                                          format_size(facts.file_bytes)));
  const std::string active = model.mixture.experts == 0 ? std::string()
                                                        : fmt::format(", {} of them for each token",
                                                                      facts.active_parameters);
  text += line("parameters", fmt::format("{} in {}{}", facts.parameters, facts.dtypes, active));
  if (!facts.blocks.empty()) text += line("stored as", blocks_text(facts));
  text += line("weights", format_size(facts.weight_bytes));
  text += line("", fmt::format("embedding {}, each layer {}, output head {}{}",
                               format_size(facts.embedding_bytes), layer_text(facts.layer_bytes),
                               format_size(facts.head_bytes),
                               !model.head.tied ? "" : " (shares the embedding's table)"));
  text += line("KV cache", fmt::format("{} per token and sequence in f32, {} in f16",
                                       format_size(4 * facts.kv_elements_per_token),
                                       format_size(2 * facts.kv_elements_per_token)));
  text += line("activations",
               fmt::format("{} per token in f32", format_size(facts.activation_bytes_per_token)));
  return text;
}

// KV bytes of one token in f16, of the layers of one stage.
std::uint64_t stage_kv_bytes(const ModelFacts& facts, const StageFit& fit) {
  return 4 * static_cast<std::uint64_t>(facts.folder.config.attention.kv_width()) *
         static_cast<std::uint64_t>(fit.layers);
}

std::string fit_text(const ModelFacts& facts, const StageFit& fit, std::size_t stage) {
  std::string text = fmt::format("  stage {}: layers {}-{}, weights {}: ", stage, fit.first_layer,
                                 fit.first_layer + fit.layers - 1, format_size(fit.weight_bytes));
  if (!fit.fits) {
    return text + fmt::format(
                      "does not fit: streaming takes {} of device memory (two of the largest "
                      "part); use more stages or --device-memory\n",
                      format_size(fit.slot_bytes));
  }
  text += fmt::format("{} on the device", format_size(fit.device_bytes));
  if (fit.slot_bytes > 0) text += fmt::format(" beside {} of slots", format_size(fit.slot_bytes));
  if (fit.host_bytes > 0) text += fmt::format(", {} in host memory", format_size(fit.host_bytes));
  if (fit.disk_bytes > 0) text += fmt::format(", {} on disk", format_size(fit.disk_bytes));
  if (fit.device_left > 0) {
    text += fmt::format("; {} of the device left, {} tokens of f16 KV cache",
                        format_size(fit.device_left), fit.device_left / stage_kv_bytes(facts, fit));
  }
  return text + "\n";
}

Json facts_json(const std::string& name, const ModelFacts& facts) {
  const stage::DecoderConfig& model = facts.folder.config;
  std::vector<std::string> files;
  for (const auto& file : facts.files) files.push_back(file.filename().string());
  return {{"model", name},
          {"folder", facts.folder.path.string()},
          {"family", facts.folder.family->title},
          {"model_type", facts.folder.family->model_type},
          {"layers", model.layers},
          {"hidden", model.hidden},
          {"heads", model.attention.query_heads},
          {"kv_heads", model.attention.kv_heads},
          {"head_dim", model.attention.head_width},
          {"ffn", model.mlp.width},
          {"vocabulary", model.vocabulary},
          {"positions", model.max_positions},
          {"embedding_width", model.embedding.width},
          {"remarks", facts.remarks},
          {"eos_ids", facts.folder.eos_ids},
          {"tokenizer", tokenizer_text(facts.folder.path)},
          {"format", facts.format},
          {"files", files},
          {"file_bytes", facts.file_bytes},
          {"dtypes", facts.dtypes},
          {"blocks", facts.blocks},
          {"parameters", facts.parameters},
          {"active_parameters", facts.active_parameters},
          {"experts", model.mixture.experts},
          {"weight_bytes", facts.weight_bytes},
          {"embedding_bytes", facts.embedding_bytes},
          {"layer_bytes", facts.layer_bytes},
          {"head_bytes", facts.head_bytes},
          {"kv_bytes_per_token_f32", 4 * facts.kv_elements_per_token},
          {"kv_bytes_per_token_f16", 2 * facts.kv_elements_per_token},
          {"activation_bytes_per_token_f32", facts.activation_bytes_per_token}};
}

Json fit_json(const StageFit& fit) {
  return {{"first_layer", fit.first_layer},   {"layers", fit.layers},
          {"weight_bytes", fit.weight_bytes}, {"fits", fit.fits},
          {"device_bytes", fit.device_bytes}, {"slot_bytes", fit.slot_bytes},
          {"host_bytes", fit.host_bytes},     {"disk_bytes", fit.disk_bytes}};
}

}  // namespace

int inspect(const std::string& model, const InspectOptions& options, std::ostream& out) {
  const ModelFacts facts = read_model_facts(model, options.compress_weight);
  const std::vector<StageFit> fits =
      fit_weights(facts, options.device_memory, options.host_memory, options.stages);
  const bool asked = options.device_memory != 0 || options.host_memory != 0 || options.stages != 1;
  if (options.json) {
    Json report = facts_json(model, facts);
    report["stages"] = Json::array();
    for (const StageFit& fit : fits) report["stages"].push_back(fit_json(fit));
    out << report.dump(2) << '\n';
  } else {
    out << facts_text(model, facts);
    for (std::size_t i = 0; asked && i < fits.size(); ++i) out << fit_text(facts, fits[i], i);
  }
  const bool fit = std::ranges::all_of(fits, &StageFit::fits);
  return static_cast<int>(fit ? ExitStatus::done : ExitStatus::no_space);
}

}  // namespace sluice::launcher
