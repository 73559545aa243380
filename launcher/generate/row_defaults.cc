#include "launcher/generate/row_defaults.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace sluice::launcher {

namespace {

/// Takes from generation_config.json what neither files nor flags say, and says so in a line.
void take_model_sampling(const ModelSamplingDefaults& model, bool quiet,
                         GenerationDefaults& defaults) {
  if (defaults.model_sampling == ModelSampling::none) return;
  std::vector<std::string> taken;
  const auto take = [&](const char* key, const auto& theirs, auto& ours) {
    if (!theirs || *theirs == ours || defaults.said.contains(key)) return;
    ours = *theirs;
    taken.push_back(fmt::format("{} {}", key, ours));
  };
  stage::Sampling& sampling = defaults.sampling;
  take("temperature", model.temperature, sampling.temperature);
  take("top_k", model.top_k, sampling.top_k);
  take("top_p", model.top_p, sampling.top_p);
  take("min_p", model.min_p, sampling.min_p);
  take("repetition_penalty", model.repetition_penalty, sampling.repetition_penalty);
  take("no_repeat_ngram_size", model.no_repeat_ngram, sampling.no_repeat_ngram);
  if (taken.empty() || quiet) return;
  std::cerr << fmt::format(
      "sluice: the model's generation_config.json sets {}; --generation-config none turns that "
      "off\n",
      fmt::join(taken, ", "));
}

}  // namespace

GenerationDefaults row_defaults(const RunConfig& config, const ModelFolder& model) {
  GenerationDefaults defaults = config.generation;
  take_model_sampling(model.sampling, config.report.quiet, defaults);
  return defaults;
}

ModelLimits limits_of(const ModelFolder& model, std::vector<KnownAdapter> adapters) {
  ModelLimits limits{model.config.vocabulary, model.config.max_positions};
  limits.further_eos.assign(model.eos_ids.begin() + 1, model.eos_ids.end());
  limits.eos = model.eos_ids.front();
  limits.adapters = std::move(adapters);
  return limits;
}

std::vector<KnownAdapter> known_adapters(const OpenedAdapters& adapters) {
  std::vector<KnownAdapter> known;
  for (std::size_t i = 0; i < adapters.folders.size(); ++i) {
    known.push_back({(*adapters.specs)[i].name, adapters.folders[i].digest});
  }
  return known;
}

UnknownFieldRule unknown_field_rule(const JobConfig& job) {
  return job.strict        ? UnknownFieldRule::refuse
         : job.keep_fields ? UnknownFieldRule::keep
                           : UnknownFieldRule::ignore;
}

}  // namespace sluice::launcher
