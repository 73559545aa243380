#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "launcher/config/commands/bench_serve.h"
#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

namespace {

constexpr std::array kOwn = {"--case",    "--model",       "--shapes", "--batches", "--stages",
                             "--prompts", "--repetitions", "--format", "--page"};
/// Flags of `generate` that a benchmark sets itself or has no use for.
constexpr std::array kNotHere = {"--lora",
                                 "--model",
                                 "--input",
                                 "--output",
                                 "--resume",
                                 "--overwrite",
                                 "--prompt",
                                 "--prompt-len",
                                 "--gen-len",
                                 "--num-prompts",
                                 "--report",
                                 "--trace",
                                 "--print-config",
                                 "--dry-run",
                                 "--schedule",
                                 "--quiet",
                                 "--color",
                                 "--echo",
                                 "--stop",
                                 "--stop-token-id",
                                 "--max-new-tokens",
                                 "--ignore-eos",
                                 "--skip-special-tokens",
                                 "--logprobs",
                                 "--generation-config",
                                 "--stop-after",
                                 "--journal-seconds"};
constexpr std::int32_t kMost = 1'000'000;

std::string usage() {
  return R"(
Usage:
  sluice bench generate --model DIR|ID [FLAGS]
  sluice bench scaling --model DIR|ID [FLAGS]
  sluice bench serve --model DIR|ID [FLAGS]
  sluice bench serve --url http://HOST:PORT [FLAGS]

Examples:
  Prefill and decode at three batch sizes, weights made up:
    sluice bench generate --model ./opt-1.3b --weights dummy --shapes 512/32 --batches 1,8,32
  The same work on 1, 2 and 4 ranks, all weights streamed, and a page with plots:
    sluice bench scaling --model ./opt-1.3b --percent 0 100 100 0 100 0 --stages 1,2,4 \
        --page scaling.html
  What clients of a server see: 200 requests, 4 a second, at most 32 under way:
    sluice bench serve --model ./opt-1.3b --requests 200 --request-rate 4 --max-concurrency 32

Every run is a process of its own, `sluice generate` with made-up prompts; loading is not counted.
Flags of `sluice generate` that say where bytes live and how prompts are batched are handed to it,
or to the server that is measured. Of a server: TTFT is the time from a request to its first text,
TPOT that for each token behind the first, ITL that between two events of a stream, E2E the whole.

)";
}

std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = {
      {"What is measured",
       {{"--case", "CASE",
         "generate: tokens/s; scaling: over numbers of stages; serve: what clients of a server "
         "see; may "
         "stand without --case"},
        {"--model,--path", "DIR|ID", "model folder, or hub id in the local Hugging Face cache"},
        {"--shapes", "P/A,...",
         "tokens of a prompt and of its answer; scaling and serve take one [512/32]"},
        {"--batches", "N,...", "generate: sequences that are computed together [1,8,32]"},
        {"--stages", "N,...", "scaling: numbers of ranks, the first is the measure [1,2,4]"},
        {"--prompts", "N",
         "scaling: prompts of the strong job [two micro-batches for each of the most stages]"},
        {"--repetitions", "N", "turns of everything [3]"},
        {"--format", "md|csv|json", "form of the table [md]"},
        {"--page", "FILE", "scaling: write an HTML page with plots that opens offline"}}},
      serve_load_flags()};
  for (FlagGroup& group : generate_page().flags()) {
    std::erase_if(group.flags, [](const FlagHelp& help) {
      const std::string name = help.flag.substr(0, help.flag.find(','));
      return std::ranges::find(kNotHere, name) != kNotHere.end();
    });
    if (!group.flags.empty()) groups.push_back(std::move(group));
  }
  return groups;
}

/// A whole number from 1 on; 0: it is none.
std::int32_t count_of(std::string_view text) {
  std::int32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end && value >= 1 && value <= kMost ? value : 0;
}

std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

void read_counts(const GivenFlags& given, const char* flag, std::vector<std::int32_t>& counts,
                 std::vector<std::string>& problems) {
  if (!given.has(flag)) return;
  counts.clear();
  for (const std::string& part : parts_of(given.value(flag))) {
    counts.push_back(count_of(part));
    if (counts.back() > 0) continue;
    problems.push_back(fmt::format("{}: '{}' is not a whole number from 1 to {}; write 1,8,32",
                                   flag, part, kMost));
  }
}

void read_count(const GivenFlags& given, const char* flag, std::int32_t& count,
                std::vector<std::string>& problems) {
  std::vector<std::int32_t> counts = {count};
  read_counts(given, flag, counts, problems);
  count = counts.front();
}

void read_shapes(const GivenFlags& given, std::vector<BenchShape>& shapes,
                 std::vector<std::string>& problems) {
  if (!given.has("--shapes")) return;
  shapes.clear();
  for (const std::string& part : parts_of(given.value("--shapes"))) {
    const std::size_t slash = std::min(part.find('/'), part.size());
    const BenchShape shape = {count_of(part.substr(0, slash)),
                              count_of(part.substr(std::min(slash + 1, part.size())))};
    if (shape.prompt == 0 || shape.answer == 0) {
      problems.push_back(fmt::format(
          "--shapes: '{}' is not tokens of a prompt and of an answer; write 512/32", part));
    }
    shapes.push_back(shape);
  }
}

void read_format(const GivenFlags& given, BenchForm& form, std::vector<std::string>& problems) {
  const std::string name = given.value("--format");
  if (name == "csv") {
    form = BenchForm::csv;
  } else if (name == "json") {
    form = BenchForm::json;
  } else if (!name.empty() && name != "md") {
    problems.push_back(fmt::format("--format: '{}' is not one of md, csv, json", name));
  }
}

std::vector<std::string> run_flags(const GivenFlags& given) {
  std::vector<std::string> words;
  for (const auto& flag : given.flags()) {
    const bool is_own = std::ranges::find(kOwn, flag->name) != kOwn.end();
    if (!flag->given || is_own || is_serve_load_flag(flag->name)) continue;
    if (!flag->is_list || flag->values.empty()) words.push_back(flag->name);
    for (const std::string& value : flag->values) {
      if (flag->is_list) words.push_back(flag->name);
      words.push_back(value);
    }
  }
  return words;
}

void check(const GivenFlags& given, const BenchArguments& arguments,
           std::vector<std::string>& problems) {
  const bool scales = arguments.what == BenchCase::scaling;
  if (arguments.what == BenchCase::serve) return;
  if (arguments.model.empty()) problems.emplace_back("no model: give --model DIR, or a hub id");
  for (const char* flag : {"--stages", "--prompts", "--page"}) {
    if (!scales && given.has(flag)) {
      problems.push_back(fmt::format("{}: is for sluice bench scaling", flag));
    }
  }
  if (scales && given.has("--batches")) {
    problems.emplace_back(
        "--batches: is for sluice bench generate; scaling takes --gpu-batch-size");
  }
  if (scales && arguments.shapes.size() > 1) {
    problems.emplace_back("--shapes: scaling takes one");
  }
  if (!scales && given.has("--gpu-batch-size")) {
    problems.emplace_back("--gpu-batch-size: --batches says it for sluice bench generate");
  }
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::bench;
  RunConfig config;  // checks the flags that are handed on
  read_run_config(given, words, "bench", config);
  BenchArguments& arguments = parsed.bench;
  std::vector<std::string> problems;
  const std::string what = given.value("--case");
  if (what == "scaling") {
    arguments.what = BenchCase::scaling;
  } else if (what == "serve") {
    arguments.what = BenchCase::serve;
  } else if (what != "generate") {
    problems.push_back(what.empty()
                           ? "bench what? Give generate, scaling or serve"
                           : fmt::format("'{}' is not one of generate, scaling, serve", what));
  }
  arguments.model = given.value("--model");
  read_shapes(given, arguments.shapes, problems);
  read_counts(given, "--batches", arguments.batches, problems);
  read_counts(given, "--stages", arguments.stages, problems);
  read_count(given, "--repetitions", arguments.repetitions, problems);
  const std::int32_t most = std::max(*std::ranges::max_element(arguments.stages), 1);
  arguments.prompts = 2 * most * config.batching.gpu_batch_size * config.batching.num_gpu_batches;
  read_count(given, "--prompts", arguments.prompts, problems);
  read_format(given, arguments.form, problems);
  arguments.page = given.value("--page");
  arguments.run_flags = run_flags(given);
  arguments.load.seed = config.generation.sampling.seed;
  read_serve_load(given, arguments, problems);
  check(given, arguments, problems);
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& bench_page() {
  static const CommandPage page = {"bench",
                                   "Measures tokens/s of this machine, also over numbers of stages",
                                   usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
