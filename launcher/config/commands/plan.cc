#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"
#include "launcher/config/config_yaml.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice plan --model DIR|ID [--machine FILE] [--stages N] [FLAGS]

Examples:
  For this machine, as sluice calibrate measured it:
    sluice plan --model ./opt-30b --input prompts.jsonl --output plan.yaml
    sluice generate --config plan.yaml --input prompts.jsonl --output answers.jsonl
  For another one, with other plans, other machines and the curve of latency:
    sluice plan --model facebook/opt-175b --machine cluster-configs/machines/4-hosts-t4.yaml \
        --prompt-len 512 --gen-len 32 --explain

What flags and --config say is kept; the rest is chosen. Without prompts: 512 tokens each, and 32 of
answer.

)";
}

constexpr const char* kNotOfPlans[] = {
    "--output",       "--resume",  "--overwrite", "--journal-seconds", "--prompt",
    "--print-config", "--dry-run", "--schedule",  "--report",          "--trace",
    "--quiet",        "--color",   "--probe"};

std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = generate_page().flags();
  for (FlagGroup& group : groups) {
    std::erase_if(group.flags, [](const FlagHelp& help) {
      return std::ranges::find(kNotOfPlans, help.flag) != std::end(kNotOfPlans);
    });
  }
  std::erase_if(groups, [](const FlagGroup& group) { return group.flags.empty(); });
  groups.insert(
      groups.begin() + 1,
      {"The plan",
       {{"--stages", "N", "stages, one for each rank [one for each device of the machine]"},
        {"--latency-limit", "S", "seconds that a sequence may take from its start to its end"},
        {"--allow-compression", "8bit|4bit", "weights may be quantised to 8 bits; 4bit: or to 4"},
        {"--allow-cache-compression", "8bit|4bit", "the KV cache likewise"},
        {"--explain", "",
         "also print the next best plans, tokens per second over latency, and what other machines "
         "would give"},
        {"--output", "FILE", "write the plan as YAML, for generate --config"},
        {"--json", "FILE", "write the plan and its prediction as JSON"}}});
  return groups;
}

/// "8bit": that; "4bit": both; else a problem.
template <typename T>
std::vector<T> allowed_by(const GivenFlags& given, const std::string& flag, T eight, T four,
                          std::vector<std::string>& problems) {
  if (!given.has(flag)) return {};
  const std::string value = given.value(flag);
  if (value == "8bit") return {eight};
  if (value == "4bit") return {eight, four};
  problems.push_back(fmt::format("{}: must be 8bit or 4bit, not '{}'", flag, value));
  return {};
}

/// A number above 0; else a problem.
void read_seconds(const GivenFlags& given, const std::string& flag, double& seconds,
                  std::vector<std::string>& problems) {
  if (!given.has(flag)) return;
  const std::string text = given.value(flag);
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, seconds);
  if (result.ec == std::errc() && result.ptr == end && seconds > 0) return;
  problems.push_back(fmt::format("{}: must be a number of seconds above 0, not '{}'", flag, text));
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::plan;
  RunConfig& config = parsed.config;
  read_run_config(given, words, "plan", config);
  PlanArguments& arguments = parsed.plan;
  arguments.output = given.value("--output");
  // That is the plan's file. The answers' stays what the configuration file says.
  RunConfig file;
  if (given.has("--config")) read_config_file(given.value("--config"), file);
  config.job.output = file.job.output;
  RunConfig complete = config;
  const bool has_prompts = !complete.job.input.empty() || !complete.job.prompt.empty();
  if (!has_prompts && complete.job.prompt_len == 0) complete.job.prompt_len = 1;  // plan() says
  std::vector<std::string> problems = contradictions(complete, false);
  read_count(given, "--stages", 1, arguments.stages, problems);
  read_seconds(given, "--latency-limit", arguments.latency_limit, problems);
  arguments.compressions = allowed_by(given, "--allow-compression", offload::Compression::eight_bit,
                                      offload::Compression::four_bit, problems);
  arguments.cache_dtypes =
      allowed_by(given, "--allow-cache-compression", DType::q8, DType::q4, problems);
  arguments.json = given.value("--json");
  arguments.explain = given.has("--explain");
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& plan_page() {
  static const CommandPage page = {
      "plan", "Chooses how a job runs on a machine, and says what it will take", usage, flags,
      read};
  return page;
}

}  // namespace sluice::launcher
