#include "launcher/config/commands/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace sluice::launcher {

namespace {

constexpr double kMostRate = 1e6;

/// Of the server that is started.
constexpr const char* kHandedOn[] = {"--chat-template", "--max-model-len", "--max-waiting"};

void read_rate(const GivenFlags& given, double& rate, std::vector<std::string>& problems) {
  const std::string text = given.value("--request-rate");
  if (text.empty() || text == "inf") return;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), rate);
  const bool is_number = result.ec == std::errc() && result.ptr == text.data() + text.size();
  if (is_number && rate > 0 && rate <= kMostRate) return;
  problems.push_back(
      fmt::format("--request-rate: '{}' is neither inf nor a number of requests per second", text));
}

void read_own(const GivenFlags& given, ServeLoad& load, std::vector<std::string>& problems) {
  load.url = given.value("--url");
  load.dataset = given.value("--dataset");
  load.json = given.value("--json");
  read_rate(given, load.request_rate, problems);
  read_count(given, "--ranks", 1, load.ranks, problems);
  read_count(given, "--max-concurrency", 1, load.at_once, problems);
  read_count(given, "--requests", 1, load.requests, problems);
  read_count(given, "--warm-up", 0, load.warm_up, problems);
  read_count(given, "--prefix-len", 0, load.prefix, problems);
}

/// Problems of flags that do not go together.
void check(const GivenFlags& given, const BenchArguments& arguments,
           std::vector<std::string>& problems) {
  const ServeLoad& load = arguments.load;
  for (const char* flag : {"--batches", "--repetitions", "--stages", "--prompts", "--page"}) {
    if (given.has(flag)) problems.push_back(fmt::format("{}: is not for sluice bench serve", flag));
  }
  if (arguments.shapes.size() > 1) problems.emplace_back("--shapes: serve takes one");
  if (load.prefix >= arguments.shapes.front().prompt) {
    problems.emplace_back(
        "--prefix-len: must be less than the prompt's tokens in --shapes, so that prompts differ");
  }
  if (load.prefix > 0 && !load.dataset.empty()) {
    problems.emplace_back(
        "--prefix-len: is for prompts that are made up, and --dataset has its own");
  }
  if (load.url.empty()) {
    if (arguments.model.empty()) {
      problems.emplace_back(
          "no server: give --url of one that runs, or --model DIR for one that is started");
    }
    return;
  }
  const auto of_server = std::ranges::find_if(arguments.run_flags, [](const std::string& word) {
    return word.starts_with("--") && word != "--seed";
  });
  if (given.has("--model") || given.has("--ranks") || of_server != arguments.run_flags.end()) {
    problems.push_back(fmt::format("--url: the server runs already, so {} cannot be said of it",
                                   given.has("--model")   ? "--model"
                                   : given.has("--ranks") ? "--ranks"
                                                          : *of_server));
  }
}

}  // namespace

FlagGroup serve_load_flags() {
  return {
      "Load on a server (serve)",
      {{"--url", "URL",
        "a server that runs, with OpenAI's API: http://HOST:PORT; its key is the environment's "
        "SLUICE_API_KEY [one of --model is started]"},
       {"--ranks", "N", "stages of the server that is started [1]"},
       {"--requests", "N", "requests in all [100]"},
       {"--request-rate", "R|inf",
        "requests per second, at random (Poisson); inf: all at once [inf]"},
       {"--max-concurrency", "N", "most requests under way [as many as are due]"},
       {"--prefix-len", "N", "tokens with which all prompts begin alike, of those of --shapes [0]"},
       {"--dataset", "FILE",
        "JSON lines with prompt or messages, and fields of a request, in place of made-up prompts"},
       {"--warm-up", "N", "requests before, one by one, that are not counted [1]"},
       {"--json", "FILE", "write all figures, and the times of each answer"},
       {"--chat-template", "FILE", "of the server that is started, in place of the model's own"},
       {"--max-model-len", "N", "likewise: most tokens of a prompt with its answer"},
       {"--max-waiting", "N", "likewise: requests that wait for a place"}}};
}

bool is_serve_load_flag(const std::string& flag) {
  for (const FlagHelp& help : serve_load_flags().flags) {
    if (help.flag == flag) return std::ranges::find(kHandedOn, flag) == std::end(kHandedOn);
  }
  return false;
}

void read_serve_load(const GivenFlags& given, BenchArguments& arguments,
                     std::vector<std::string>& problems) {
  if (arguments.what == BenchCase::serve) {
    read_own(given, arguments.load, problems);
    return check(given, arguments, problems);
  }
  for (const FlagHelp& help : serve_load_flags().flags) {
    if (given.has(help.flag)) {
      problems.push_back(fmt::format("{}: is for sluice bench serve", help.flag));
    }
  }
}

}  // namespace sluice::launcher
