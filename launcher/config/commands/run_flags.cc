#include "launcher/config/commands/run_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config/config_reader.h"
#include "launcher/config/config_schema.h"
#include "launcher/config/config_yaml.h"

namespace sluice::launcher {

namespace {

std::string meaning_of(const KeyDescription& key) {
  std::string meaning = key.meaning;
  if (key.form.find(", ") != std::string::npos && !key.form.starts_with("whole") &&
      !key.form.starts_with("number")) {
    meaning += fmt::format(" ({})", key.form);
  }
  if (!key.is_boolean && !key.fallback.empty()) meaning += fmt::format(" [{}]", key.fallback);
  return meaning;
}

/// A flag that names a source of prompts replaces the source in the --config file. --resume and
/// --overwrite likewise replace each other, and so do --keep-fields and --strict.
void forget_replaced(const GivenFlags& given, JobConfig& job) {
  if (given.has("--input") || given.has("--prompt") || given.has("--prompt-len")) {
    if (!given.has("--input")) job.input.clear();
    if (!given.has("--prompt")) job.prompt.clear();
    if (!given.has("--prompt-len")) job.prompt_len = job.gen_len = job.num_prompts = 0;
    if (!given.has("--input") && !given.has("--output")) job.output.clear();
    if (!given.has("--input")) job.resume = job.overwrite = false;
    if (!given.has("--input") && !given.has("--shard")) job.shard.clear();
  }
  if (given.has("--resume")) job.overwrite = false;
  if (given.has("--overwrite")) job.resume = false;
  if (given.has("--keep-fields")) job.strict = false;
  if (given.has("--strict")) job.keep_fields = false;
}

}  // namespace

std::vector<FlagGroup> with_schema(std::vector<FlagGroup> groups) {
  const std::vector<KeyDescription> keys = describe_keys();
  for (FlagGroup& group : groups) {
    for (FlagHelp& help : group.flags) {
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const KeyDescription& one) {
        return one.flags.substr(0, one.flags.find(',')) == help.flag;
      });
      if (key == keys.end()) continue;
      help.flag = key->flags;
      if (help.meaning.empty()) help.meaning = meaning_of(*key);
    }
  }
  return groups;
}

void read_run_config(GivenFlags& given, const Words& words, const std::string& command,
                     RunConfig& config) {
  std::vector<std::string> problems;
  given.check(command, words, problems);
  const ConfigNode tree = tree_of(given.flags(), problems);
  if (!problems.empty()) refuse(problems);
  if (given.has("--config")) read_config_file(given.value("--config"), config);
  forget_replaced(given, config.job);

  ConfigProblems wrong;
  read_config(tree, "", config, wrong);
  refuse_problems(std::move(wrong));
  for (const ConfigNode& item : tree.items) {
    if (item.key != "stage_defaults") continue;
    ConfigProblems seen;  // the same values passed for stage_defaults just now
    for (stage::StageConfig& stage : config.stages) read_stage(item, "", stage, seen);
  }
}

}  // namespace sluice::launcher
