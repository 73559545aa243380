#include "launcher/serve/served_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "kernels/device/error.h"
#include "launcher/generate/open_tokenizer.h"
#include "launcher/generate/row_defaults.h"

namespace sluice::launcher {
namespace {

/// Of a sequence: the KV cache has room for it in every place.
constexpr std::int32_t kUsualTokens = 4096;
constexpr std::int32_t kCompletionTokens = 16;  // OpenAI's default

std::int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

/// OpenAI's defaults, where neither the configuration nor the model says otherwise.
GenerationDefaults request_defaults(const RunConfig& config, const ModelFolder& model,
                                    std::int32_t max_tokens) {
  RunConfig asked = config;
  GenerationDefaults& defaults = asked.generation;
  if (!defaults.said.contains("temperature")) defaults.sampling.temperature = 1.0F;
  if (!defaults.said.contains("max_new_tokens")) defaults.max_new_tokens = max_tokens;
  // Requests without a seed differ from run to run.
  if (!defaults.said.contains("seed")) defaults.sampling.seed = std::random_device{}();
  asked.report.quiet = config.report.quiet || max_tokens != kCompletionTokens;  // said once
  return row_defaults(asked, model);
}

ModelLimits limits_for(const OpenedModel& opened, const ServeArguments& arguments) {
  ModelLimits limits = limits_of(opened.folder, known_adapters(opened.adapters));
  if (arguments.max_model_len > limits.positions) {
    throw ConfigError(fmt::format("--max-model-len is {}, but the model has {} positions",
                                  arguments.max_model_len, limits.positions));
  }
  if (arguments.max_model_len > 0) limits.positions = arguments.max_model_len;
  return limits;
}

ChatTemplate chat_for(const ModelFolder& model, const ServeArguments& arguments,
                      const Tokenizer& tokenizer) {
  if (arguments.chat_template.empty()) return ChatTemplate::open(model.path, tokenizer);
  return ChatTemplate::open_file(arguments.chat_template, model.path, tokenizer);
}

RequestParser parser_for(const RunConfig& config, const ModelFolder& model,
                         const ServedModel& served, std::int32_t max_tokens) {
  return {served.tokenizer, request_defaults(config, model, max_tokens), served.limits,
          &served.chat, config.job.strict ? UnknownFieldRule::refuse : UnknownFieldRule::ignore};
}

}  // namespace

ServedModel::ServedModel(const RunConfig& config, const ServeArguments& arguments,
                         const OpenedModel& opened)
    : names(arguments.names.empty() ? std::vector{config.model} : arguments.names),
      created(unix_seconds()),
      limits(limits_for(opened, arguments)),
      features(opened.folder.config.feature_width()),
      tokenizer(open_tokenizer(opened.folder)),
      chat(chat_for(opened.folder, arguments, tokenizer)),
      parser(parser_for(config, opened.folder, *this, kCompletionTokens),
             parser_for(config, opened.folder, *this, INT32_MAX)),
      job(tokenizer, opened.folder.eos_ids.front(),
          ServeLimits{static_cast<std::size_t>(arguments.max_waiting)}) {
  for (const KnownAdapter& adapter : limits.adapters) {
    if (std::ranges::count(names, adapter.name) == 0) continue;
    throw ConfigError(
        fmt::format("--lora {}=...: clients call the model itself by this name; give "
                    "the adapter another",
                    adapter.name));
  }
}

JobScan ServedModel::scan() const {
  JobScan scan;
  scan.longest_sequence = limits.positions;
  scan.usual_sequence = std::min(kUsualTokens, limits.positions);
  scan.most_rule_words = stage::kMaxRuleWords;
  scan.grammars = true;
  return scan;
}

}  // namespace sluice::launcher
