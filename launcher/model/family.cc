#include "launcher/model/family.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "kernels/device/error.h"
#include "launcher/model/families/pages.h"
#include "offload/checkpoint/input_file.h"
#include "stage/weight_groups.h"

namespace sluice::launcher {

namespace {

constexpr const char* kWeight = ".weight";
constexpr const char* kBias = ".bias";

using offload::Checkpoint;
using offload::StoredNames;
using offload::TensorRecord;

/// The stored name under the one prefix that is in use; under the first where there is none.
std::string stored_under_prefix(const Checkpoint& checkpoint,
                                const std::vector<std::string>& prefixes, const std::string& name) {
  std::string found;
  for (const std::string& prefix : prefixes) {
    if (checkpoint.find(prefix + name) == nullptr) continue;
    if (!found.empty()) {
      throw InputError(
          fmt::format("{} has two tensors for {}: \"{}\" and \"{}\"; remove one of them",
                      checkpoint.files().front().parent_path().string(), offload::printable(name),
                      offload::printable(found), offload::printable(prefix + name)));
    }
    found = prefix + name;
  }
  return found.empty() ? prefixes.front() + name : found;
}

std::string with_layer(const std::string& name, std::int32_t layer) {
  const std::size_t star = name.find('*');
  if (star == std::string::npos) return name;
  return name.substr(0, star) + std::to_string(layer) + name.substr(star + 1);
}

/// Decides between token table and head, where both, or one of them, are stored.
void tie(const Checkpoint& checkpoint, StoredNames& names, stage::DecoderConfig& model) {
  const std::string table_name = stage::embedding_group(model).tensors[stage::kTokens].name;
  stage::DecoderConfig untied = model;
  untied.head.tied = false;
  const std::string head_name = stage::head_group(untied).tensors[stage::kHeadTokens].name;
  const auto table = names.find(table_name);
  const auto head = names.find(head_name);
  if (table == names.end() || head == names.end()) return;
  const TensorRecord* const stored_table = checkpoint.find(table->second.tensor);
  const TensorRecord* const stored_head = checkpoint.find(head->second.tensor);
  if (stored_head == nullptr) return;
  if (stored_table != nullptr) {
    model.head.tied =
        model.head.tied && offload::same_content(checkpoint, *stored_table, *stored_head);
  } else if (model.head.tied) {
    table->second = head->second;
  }
}

}  // namespace

const Families& families() {
  static const Families all = {&opt_family(),         &llama_family(),  &mistral_family(),
                               &qwen2_family(),       &qwen3_family(),  &gpt2_family(),
                               &bloom_family(),       &gptj_family(),   &codegen_family(),
                               &gpt_neox_family(),    &falcon_family(), &glm_family(),
                               &glm4_family(),        &phi3_family(),   &gemma2_family(),
                               &gemma3_text_family(), &gemma3_family(), &yalm_family()};
  return all;
}

const Family& family_of(const ConfigReader& config, const Families& known) {
  const std::string type = config.text("model_type", "");
  const auto found =
      std::ranges::find_if(known, [&](const Family* family) { return family->model_type == type; });
  if (found != known.end()) return **found;
  std::vector<std::string> types;
  for (const Family* family : known) {
    types.push_back(fmt::format("\"{}\" ({})", family->model_type, family->title));
  }
  config.fail(fmt::format("model_type is \"{}\", but only {} can run", offload::printable(type),
                          fmt::join(types, ", ")));
}

StoredNames find_tensors(const Family& family, const Checkpoint& checkpoint,
                         stage::DecoderConfig& model) {
  const TensorNames tensors = family.name_tensors(model);
  StoredNames names;
  for (const TensorNames::Entry& entry : tensors.entries()) {
    const bool in_layers = entry.ours.find('*') != std::string::npos;
    const std::vector<std::string> ends =
        entry.exact ? std::vector<std::string>{""} : std::vector<std::string>{kWeight, kBias};
    for (std::int32_t layer = 0; layer < (in_layers ? model.layers : 1); ++layer) {
      for (const std::string& end : ends) {
        names[with_layer(entry.ours, layer) + end] = {
            stored_under_prefix(checkpoint, tensors.prefixes(),
                                with_layer(entry.stored, layer) + end),
            entry.rows, entry.transposed && end == kWeight};
      }
    }
  }
  tie(checkpoint, names, model);
  return names;
}

}  // namespace sluice::launcher
