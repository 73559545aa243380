#include <algorithm>

#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice score --model DIR|ID --input FILE [--prefix FILE] [--output FILE] [FLAGS]
  mpirun -n STAGES --bind-to none sluice score --model DIR|ID --input FILE [FLAGS]

Examples:
  sluice score --model ./opt-1.3b --input hellaswag.jsonl
  sluice score --model ./opt-30b --input mmlu.jsonl --prefix five-examples.txt \
      --percent 20 50 100 0 100 0 --output scores.jsonl --resume

Each line of the input is a question with choices, in MMLU's form ("question", "choices", "answer")
or in HellaSwag's ("ctx", "endings", "label"). Prints how many were answered right (acc), and how
many by log-probability over length (acc_norm), each with its standard error. Contexts and choices
are lm-eval's; see docs/scores.md.

)";
}

constexpr const char* kNotOfScores[] = {"--lora",
                                        "--input",
                                        "--output",
                                        "--resume",
                                        "--overwrite",
                                        "--journal-seconds",
                                        "--keep-fields",
                                        "--strict",
                                        "--shard",
                                        "--stop-after",
                                        "--prompt",
                                        "--prompt-len",
                                        "--gen-len",
                                        "--num-prompts",
                                        "--max-new-tokens",
                                        "--temperature",
                                        "--top-k",
                                        "--top-p",
                                        "--min-p",
                                        "--repetition-penalty",
                                        "--frequency-penalty",
                                        "--presence-penalty",
                                        "--no-repeat-ngram-size",
                                        "--min-tokens",
                                        "--generation-config",
                                        "--seed",
                                        "--stop",
                                        "--stop-token-id",
                                        "--ignore-eos",
                                        "--skip-special-tokens",
                                        "--logprobs",
                                        "--echo",
                                        "--print-config"};

std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = generate_page().flags();
  for (FlagGroup& group : groups) {
    std::erase_if(group.flags, [](const FlagHelp& help) {
      return std::ranges::find(kNotOfScores, help.flag) != std::end(kNotOfScores);
    });
  }
  std::erase_if(groups, [](const FlagGroup& group) { return group.flags.empty(); });
  groups.insert(
      groups.begin() + 1,
      {"Questions",
       {{"--input", "FILE", "questions with choices, as JSON Lines, also in gzip or zstd"},
        {"--prefix", "FILE", "text in front of every context: few-shot examples, say"},
        {"--no-bos", "", "contexts do not get the model's BOS token"},
        {"--output", "FILE", "write the scores of each row, as JSON Lines [nowhere]"},
        {"--resume", "", "keep what the output has, and score the rest"},
        {"--overwrite", "", "replace an output that is there"},
        {"--shard", "I/N|slurm", "score each N-th question, from the I-th on"},
        {"--stop-after", "TIME", "stop then, and keep what is there: 11h50m, 90s"}}});
  return groups;
}

/// What the run does with each row is the command's, whatever the configuration file says.
void set_job(JobConfig& job, GenerationDefaults& generation) {
  job.prompt.clear();
  job.prompt_len = job.gen_len = job.num_prompts = 0;
  job.strict = false;
  job.keep_fields = true;  // the right choice stands in the record
  if (job.output.empty()) job.output = kNowhere;
  generation = {};
  generation.max_new_tokens = 0;
  generation.model_sampling = ModelSampling::none;
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::score;
  RunConfig& config = parsed.config;
  read_run_config(given, words, "score", config);
  parsed.dry_run = given.has("--dry-run");
  parsed.schedule = given.has("--schedule");
  parsed.score.prefix_file = given.value("--prefix");
  parsed.score.bos = !given.has("--no-bos");
  std::vector<std::string> problems;
  if (config.job.input.empty()) problems.emplace_back("no questions: give --input FILE");
  if (config.job.output == "-") {
    problems.emplace_back("--output: scores go to a file, as standard output has the accuracy");
  }
  if (config.job.output.empty() && (config.job.resume || config.job.overwrite)) {
    problems.emplace_back("--resume and --overwrite say what becomes of an output: give --output");
  }
  set_job(config.job, config.generation);
  if (problems.empty()) problems = contradictions(config, !parsed.dry_run);
  if (parsed.schedule && !parsed.dry_run) {
    problems.emplace_back("--schedule prints what a dry run plans; give --dry-run with it");
  }
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& score_page() {
  static const CommandPage page = {
      "score", "Scores questions with choices, and prints how many are right", usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
