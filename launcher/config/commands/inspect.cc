#include "launcher/config/commands/pages.h"

#include "launcher/config/config_reader.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice inspect DIR|ID [FLAGS]

Example:
  sluice inspect ./opt-30b --device-memory 24GiB --host-memory 128GiB --stages 2

)";
}

std::vector<FlagGroup> flags() {
  return {
      {"Flags",
       {{"--model,--path,model", "DIR|ID",
         "model folder, .gguf file, hub id in the local Hugging Face cache, or any published name "
         "that is known: facebook/opt-175b"},
        {"--device-memory", "SIZE", "say whether it fits into so much memory per device"},
        {"--host-memory", "SIZE", "... and so much host memory per stage"},
        {"--stages", "N", "stages the layers are split over [1]"},
        {"--compress-weight", "[8bit|4bit]",
         "count weights as they are when they are compressed; without a value: 4bit"},
        {"--json", "", "print JSON"}}}};
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::inspect;
  InspectArguments& arguments = parsed.inspect;
  std::vector<std::string> problems;
  given.check("inspect", words, problems);
  RunConfig config;  // of which the flags say a part
  ConfigProblems wrong;
  read_config(tree_of(given.flags(), problems), "", config, wrong);
  for (const ConfigProblem& problem : wrong) problems.push_back(problem.sentence);
  arguments.model = given.value("--model");
  arguments.device_memory = config.stage_defaults.budgets.bytes[0];
  arguments.host_memory = config.stage_defaults.budgets.bytes[1];
  arguments.compress_weight = config.stage_defaults.policy.compress_weight;
  arguments.json = given.has("--json");
  read_count(given, "--stages", 1, arguments.stages, problems);
  if (arguments.model.empty()) problems.emplace_back("no model: give --model DIR, or a hub id");
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& inspect_page() {
  static const CommandPage page = {"inspect",
                                   "Says what a model is, and whether it fits, without loading it",
                                   usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
