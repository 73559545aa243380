#include "tests/support/reference_cases.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace sluice::support {

namespace {

using nlohmann::json;

void read_outputs(const json& from, ReferencePrompt& prompt) {
  if (from.contains("greedy")) {
    prompt.greedy = from["greedy"]["tokens"].get<std::vector<std::int32_t>>();
    prompt.margins = from["greedy"]["margins"].get<std::vector<float>>();
  }
  if (from.contains("last_logits")) {
    prompt.logits = from["last_logits"].get<std::vector<float>>();
    for (std::size_t i = 0; i < prompt.logits.size(); ++i) {
      prompt.logit_ids.push_back(static_cast<std::int32_t>(i));
    }
  } else if (from.contains("last_logits_sample")) {
    prompt.logit_ids = from["last_logits_sample"]["ids"].get<std::vector<std::int32_t>>();
    prompt.logits = from["last_logits_sample"]["values"].get<std::vector<float>>();
  }
}

/// A row of a left-padded batch, without its padding.
std::vector<std::int32_t> unpadded(const json& batch, std::size_t row) {
  const auto ids = batch["input_ids"][row].get<std::vector<std::int32_t>>();
  const auto mask = batch["attention_mask"][row].get<std::vector<std::int32_t>>();
  std::vector<std::int32_t> kept;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (mask[i] != 0) kept.push_back(ids[i]);
  }
  return kept;
}

void add_batch(const json& batch, ReferenceCases& cases) {
  for (std::size_t row = 0; row < batch["rows"].size(); ++row) {
    ReferencePrompt prompt;
    prompt.id = batch["id"].get<std::string>() + "/" + std::to_string(row);
    prompt.prompt = unpadded(batch, row);
    read_outputs(batch["rows"][row], prompt);
    cases.prompts.push_back(std::move(prompt));
  }
}

void add_eos(const json& entry, ReferenceCases& cases) {
  if (!entry.contains("max_new_tokens")) {  // of tests/data/families: all end with an id
    const auto tokens = entry["tokens"].get<std::vector<std::int32_t>>();
    cases.eos.push_back({entry["input_ids"].get<std::vector<std::int32_t>>(),
                         static_cast<std::int32_t>(tokens.size()) + 4, tokens});
    return;
  }
  const auto most = entry["max_new_tokens"].get<std::int32_t>();
  if (entry.contains("greedy")) {
    cases.eos.push_back({entry["input_ids"].get<std::vector<std::int32_t>>(), most,
                         entry["greedy"]["tokens"].get<std::vector<std::int32_t>>()});
    return;
  }
  for (std::size_t row = 0; row < entry["rows"].size(); ++row) {
    cases.eos.push_back({unpadded(entry, row), most,
                         entry["rows"][row]["greedy"]["tokens"].get<std::vector<std::int32_t>>()});
  }
}

}  // namespace

std::vector<std::string> reference_names() {
  return {"galactica-like", "opt-deep",      "opt-fullvocab", "opt-odd",
          "opt-old-prefix", "opt-post-proj", "opt-pre"};
}

std::vector<std::string> family_names() {
  return {"bloom",
          "codegen",
          "dbrx",
          "falcon-40b-like",
          "falcon-7b-like",
          "gemma2",
          "gemma3",
          "glm-4-9b-like",
          "glm4-0414-like",
          "glm4-moe",
          "gpt2",
          "gptj",
          "granitemoe",
          "llama-biases",
          "llama1-like",
          "llama3-like",
          "mistral-nemo-like",
          "mistral-window",
          "mixtral",
          "neox-pythia",
          "neox-sequential",
          "olmoe",
          "phi3",
          "phi3-longrope",
          "phimoe",
          "qwen2",
          "qwen2-moe",
          "qwen2-moe-sparse-step",
          "qwen2-window",
          "qwen3",
          "qwen3-moe",
          "qwen3-yarn-v5",
          "yalm"};
}

std::vector<std::string> checkpoint_names() {
  std::vector<std::string> names = reference_names();
  for (std::string& name : family_names()) names.push_back(std::move(name));
  return names;
}

namespace {

std::filesystem::path folder_of(const std::string& name) {
  // Outside the folder where they were built, as in a bundle, the tests are told where their data
  // is.
  const char* const moved = std::getenv("SLUICE_SOURCE_DIR");
  const std::filesystem::path source = moved != nullptr ? moved : SLUICE_SOURCE_DIR;
  const std::filesystem::path data = source / "tests/data";
  const bool is_opt = std::filesystem::exists(data / "opt-reference" / name);
  return data / (is_opt ? "opt-reference" : "families") / name;
}

json read_cases(const std::filesystem::path& folder) {
  std::ifstream file(folder / "cases.json");
  if (!file) throw std::runtime_error("cannot read the reference cases of " + folder.string());
  return json::parse(file);
}

}  // namespace

ReferenceCases read_reference(const std::string& name) {
  ReferenceCases cases;
  cases.name = name;
  cases.folder = folder_of(name);
  const json all = read_cases(cases.folder);
  cases.new_tokens = all["new_tokens"].get<std::int32_t>();
  for (const char* list : {"single", "prefill_only"}) {
    if (!all.contains(list)) continue;
    for (const json& entry : all[list]) {
      ReferencePrompt prompt;
      prompt.id = entry["id"].get<std::string>();
      prompt.prompt = entry["input_ids"].get<std::vector<std::int32_t>>();
      read_outputs(entry, prompt);
      cases.prompts.push_back(std::move(prompt));
    }
  }
  if (all.contains("batch")) {
    for (const json& batch : all["batch"]) add_batch(batch, cases);
  }
  if (all.contains("eos")) {
    for (const json& entry : all["eos"]) add_eos(entry, cases);
  }
  return cases;
}

ReferenceRows read_reference_rows(const std::string& name) {
  ReferenceRows rows;
  rows.folder = folder_of(name);
  const json layers = read_cases(rows.folder)["layers"];
  layers.at("input_ids").get_to(rows.prompt);
  layers.at("final_hidden").get_to(rows.features);
  rows.is_whole = layers.contains("logits");
  if (rows.is_whole) {
    layers.at("logits").get_to(rows.logits);
    for (std::size_t i = 0; i < rows.logits.front().size(); ++i) {
      rows.logit_ids.push_back(static_cast<std::int32_t>(i));
    }
  } else {
    layers.at("logits_sample").at("ids").get_to(rows.logit_ids);
    layers.at("logits_sample").at("values").get_to(rows.logits);
  }
  return rows;
}

std::optional<double> ReferenceRows::logprob(std::size_t position, std::int32_t token) const {
  if (!is_whole) return {};
  double sum = 0;
  for (const float logit : logits.at(position)) sum += std::exp(static_cast<double>(logit));
  return static_cast<double>(logits[position].at(static_cast<std::size_t>(token))) - std::log(sum);
}

}  // namespace sluice::support
