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

/// With the number in the place of the sign, where it is there.
std::string with_number(const std::string& name, char sign, std::int32_t number) {
  const std::size_t at = name.find(sign);
  if (at == std::string::npos) return name;
  return fmt::format("{}{}{}", name.substr(0, at), number, name.substr(at + 1));
}

/// Which names stand for which stored ones, of one checkpoint.
class Naming {
 public:
  Naming(const Checkpoint& checkpoint, const TensorNames& tensors,
         const stage::DecoderConfig& model)
      : checkpoint_(checkpoint), tensors_(tensors), model_(model) {}

  StoredNames all() {
    for (const TensorNames::Entry& entry : tensors_.entries()) {
      const bool in_layers = entry.ours.find('*') != std::string::npos;
      const bool in_experts = entry.ours.find('#') != std::string::npos;
      for (std::int32_t layer = 0; layer < (in_layers ? model_.layers : 1); ++layer) {
        if (in_experts && !model_.has_experts(layer)) continue;
        const std::int32_t experts = in_experts ? model_.mixture.experts : 1;
        for (std::int32_t expert = 0; expert < experts; ++expert) add(entry, layer, expert);
      }
    }
    return std::move(names_);
  }

 private:
  void add(const TensorNames::Entry& entry, std::int32_t layer, std::int32_t expert) {
    const auto named = [&](const std::string& name) {
      return with_number(with_number(name, '*', layer), '#', expert);
    };
    const std::int64_t moved = entry.expert_rows * expert;
    for (const char* end : {kWeight, kBias}) {
      const char* const behind = entry.exact ? "" : end;
      offload::StoredName stored;
      stored.tensor =
          stored_under_prefix(checkpoint_, tensors_.prefixes(), named(entry.stored) + behind);
      stored.rows = entry.rows;
      stored.transposed = entry.transposed && (entry.exact || end == kWeight);
      if (stored.transposed) {
        stored.rows.first_input = moved;
        stored.inputs = entry.expert_rows;
      } else {
        stored.rows.first += moved;
      }
      names_[named(entry.ours) + behind] = std::move(stored);
      if (entry.exact) return;
    }
  }

  const Checkpoint& checkpoint_;
  const TensorNames& tensors_;
  const stage::DecoderConfig& model_;
  StoredNames names_;
};

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
  static const Families all = {
      &opt_family(),       &llama_family(),    &mistral_family(),    &qwen2_family(),
      &qwen3_family(),     &gpt2_family(),     &bloom_family(),      &gptj_family(),
      &codegen_family(),   &gpt_neox_family(), &falcon_family(),     &glm_family(),
      &glm4_family(),      &phi3_family(),     &gemma2_family(),     &gemma3_text_family(),
      &gemma3_family(),    &yalm_family(),     &mixtral_family(),    &qwen2_moe_family(),
      &qwen3_moe_family(), &olmoe_family(),    &granitemoe_family(), &glm4_moe_family(),
      &phimoe_family(),    &dbrx_family()};
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
  StoredNames names = Naming(checkpoint, tensors, model).all();
  tie(checkpoint, names, model);
  return names;
}

}  // namespace sluice::launcher
