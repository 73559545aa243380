#include "launcher/jobs/journal_facts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <set>
#include <string_view>
#include <utility>

#include "kernels/device/dtype.h"
#include "launcher/jobs/row_ids.h"

namespace sluice::launcher {
namespace {

/// How the weights and the cache are stored, of all stages.
std::string precision_of(const RunConfig& config) {
  const auto text = [](const stage::StageConfig& stage) {
    static constexpr const char* kWeights[] = {"as they are", "8 bits", "4 bits"};
    const offload::Policy& policy = stage.policy;
    std::string kept = fmt::format("weights {}, cache {}",
                                   kWeights[static_cast<std::size_t>(policy.compress_weight)],
                                   policy.cache_dtype ? name_of(*policy.cache_dtype) : "auto");
    // Older journals were written without it.
    if (policy.kept_millionths() > 0) {
      kept += fmt::format(", {:g} of the values", policy.attn_sparsity);
    }
    return kept;
  };
  std::set<std::string> kinds;
  for (const stage::StageConfig& stage : config.stages) kinds.insert(text(stage));
  if (kinds.empty()) kinds.insert(text(config.stage_defaults));
  return fmt::format("{}", fmt::join(kinds, "; "));
}

constexpr std::string_view kNoFurtherSettings = " 0 0 0 0 0 [] false";

}  // namespace

std::vector<JournalFact> journal_facts(const RunConfig& config, const GenerationDefaults& defaults,
                                       const std::string& input_name, std::uint64_t model) {
  const stage::Sampling& sampling = defaults.sampling;
  std::vector<JournalFact> facts = {
      {"model", fmt::format("{:016x}", model)},
      {"precision", precision_of(config)},
      {"max_new_tokens", fmt::format("{}", defaults.max_new_tokens)},
      {"temperature", fmt::format("{}", sampling.temperature)},
      {"top_k", fmt::format("{}", sampling.top_k)},
      {"top_p", fmt::format("{}", sampling.top_p)},
      {"repetition_penalty", fmt::format("{}", sampling.repetition_penalty)},
      {"seed", fmt::format("{}", sampling.seed)},
      {"logprobs", fmt::format("{}", sampling.logprobs)},
      {"echo", fmt::format("{}", defaults.echo)},
      {"stop", fmt::format("{}", defaults.stop)},
      {"stop_token_ids", fmt::format("{}", defaults.stop_token_ids)},
      {"ignore_eos", fmt::format("{}", defaults.ignore_eos)}};
  // Older journals lack these facts, and were written where they were not set.
  const auto add_if_set = [&facts](const char* name, auto value) {
    if (value != decltype(value){}) facts.push_back({name, fmt::format("{}", value)});
  };
  add_if_set("frequency_penalty", sampling.frequency_penalty);
  add_if_set("presence_penalty", sampling.presence_penalty);
  add_if_set("min_p", sampling.min_p);
  add_if_set("min_tokens", sampling.min_tokens);
  add_if_set("no_repeat_ngram_size", sampling.no_repeat_ngram);
  const std::string input = std::filesystem::path(input_name).filename().string();
  if (!input.empty()) facts.insert(facts.begin(), {"input", input});
  return facts;
}

JournalKey journal_key(const RequestRow& row, std::size_t part) {
  JournalKey key;
  key.name = row.naming == Naming::none ? key_of_line(row.line) : key_of_id(row.custom_id);
  const stage::Sampling& sampling = row.sampling;
  const auto* prompt = reinterpret_cast<const char*>(row.prompt.data());
  const std::uint64_t prompt_hash =
      hash_of({prompt, row.prompt.size() * sizeof(row.prompt.front())});
  std::string settings = fmt::format(
      "{} {} {} {} {} {} {} {} {} {} {} {}", prompt_hash, row.max_tokens, sampling.temperature,
      sampling.top_k, sampling.top_p, sampling.repetition_penalty, sampling.seed, sampling.logprobs,
      row.ignore_eos, row.echo, row.stop, row.stop_token_ids);
  for (const Choice& choice : row.choices) settings += fmt::format(" {}", choice.tokens);
  if (part > 0) settings += fmt::format(" part {}", part);
  const std::string more =
      fmt::format(" {} {} {} {} {} {} {}", sampling.frequency_penalty, sampling.presence_penalty,
                  sampling.min_p, sampling.min_tokens, sampling.no_repeat_ngram, encode(row.rules),
                  row.needs_logprobs() && !row.wants_logprobs());
  // Rows without these settings keep the digest that older journals have.
  if (more != kNoFurtherSettings) settings += more;
  if (row.grammar) {
    const auto* bytes = reinterpret_cast<const char*>(row.grammar->data());
    settings += fmt::format(" grammar {}", hash_of({bytes, row.grammar->size()}));
  }
  if (row.adapter >= 0) settings += fmt::format(" lora {:016x}", row.adapter_digest);
  key.digest = hash_of(settings);
  return key;
}

}  // namespace sluice::launcher
