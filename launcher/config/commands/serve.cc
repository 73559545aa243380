#include <algorithm>
#include <cstdlib>

#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

bool is_loopback(const std::string& host) {
  const bool is_number = host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || host == "::1" || (is_number && host.starts_with("127."));
}

namespace {

std::string usage() {
  return R"(
Usage:
  sluice serve --model DIR|ID [--host ADDRESS] [--port N] [FLAGS]
  mpirun -n STAGES --bind-to none sluice serve --model DIR|ID [FLAGS]

Examples:
  sluice serve --model ./opt-1.3b
  curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' \
      -d '{"prompt": "The capital of France is", "max_tokens": 8}'
  mpirun -n 4 --bind-to none sluice serve --model ./opt-30b --percent 20 50 0 100 100 0 \
      --host 0.0.0.0 --api-key-file key.txt

Answers OpenAI's /v1/completions and /v1/chat/completions; docs/server.md has every endpoint and
limit. Listens before the model is loaded, and answers 503 until it is. SIGTERM ends the server
when the answers under way are complete, after 30 s at most.

)";
}

constexpr const char* kNotOfServers[] = {
    "--input",       "--output",      "--resume",     "--overwrite", "--journal-seconds",
    "--keep-fields", "--shard",       "--stop-after", "--prompt",    "--prompt-len",
    "--gen-len",     "--num-prompts", "--logprobs",   "--echo",      "--print-config"};

std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = generate_page().flags();
  for (FlagGroup& group : groups) {
    if (group.title.starts_with("Prompts and answers")) group.title = "Requests";
    if (group.title.starts_with("What a prompt gets")) {
      group.title = "What a request gets that does not say otherwise";
    }
    std::erase_if(group.flags, [](const FlagHelp& help) {
      return std::ranges::find(kNotOfServers, help.flag) != std::end(kNotOfServers);
    });
  }
  groups.insert(
      groups.begin() + 1,
      {"Server",
       {{"--host", "ADDRESS", "listen there; beyond this machine only with a key [127.0.0.1]"},
        {"--port", "N", "listen there; 0: on a free port, which is printed [8000]"},
        {"--api-key-file", "FILE",
         "its first line is the key that every request but /health must bring; without it the "
         "environment's SLUICE_API_KEY"},
        {"--insecure", "", "listen beyond this machine without a key"},
        {"--allow-origin", "ORIGIN",
         "pages of this origin may ask (CORS): https://example.org, or * [none]"},
        {"--served-model-name", "NAME", "what clients call the model; may be repeated [as --model]",
         true},
        {"--chat-template", "FILE", "in place of the model's own, as Jinja"},
        {"--max-model-len", "N", "most tokens of a prompt with its answer [the model's positions]"},
        {"--files-dir", "DIR",
         "keep clients' files and batches there, over restarts; without it /v1/files and "
         "/v1/batches are refused"},
        {"--max-waiting", "N",
         "requests that wait for a place; further ones are told to come again (429) [1024]"}}});
  return groups;
}

/// Why a server may not listen there; empty: it may.
std::string address_problem(const ServeArguments& serve) {
  const char* key = std::getenv("SLUICE_API_KEY");
  const bool has_key = !serve.api_key_file.empty() || (key != nullptr && *key != '\0');
  if (is_loopback(serve.host) || has_key || serve.insecure) return {};
  return "--host " + serve.host +
         ": anybody on the network could use the server; give --api-key-file FILE, or --insecure "
         "if that is meant";
}

void read_server(const GivenFlags& given, ServeArguments& serve,
                 std::vector<std::string>& problems) {
  if (given.has("--host")) serve.host = given.value("--host");
  std::int32_t port = serve.port;
  read_count(given, "--port", 0, port, problems);
  if (port > UINT16_MAX) problems.emplace_back("--port: ports are numbers from 0 to 65535");
  serve.port = static_cast<std::uint16_t>(port);
  serve.names = given.values("--served-model-name");
  serve.chat_template = given.value("--chat-template");
  serve.api_key_file = given.value("--api-key-file");
  serve.insecure = given.has("--insecure");
  serve.allow_origin = given.value("--allow-origin");
  serve.files_dir = given.value("--files-dir");
  read_count(given, "--max-model-len", 1, serve.max_model_len, problems);
  read_count(given, "--max-waiting", 1, serve.max_waiting, problems);
  if (std::string problem = address_problem(serve); !problem.empty()) {
    problems.push_back(std::move(problem));
  }
}

/// Requests are the only prompts, whatever the configuration file says.
void set_job(RunConfig& config) {
  const bool strict = config.job.strict;
  config.job = {};
  config.job.strict = strict;
  config.generation.echo = false;
  config.generation.sampling.logprobs = -1;
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::serve;
  read_run_config(given, words, "serve", parsed.config);
  parsed.dry_run = given.has("--dry-run");
  parsed.schedule = given.has("--schedule");
  std::vector<std::string> problems;
  read_server(given, parsed.serve, problems);
  set_job(parsed.config);
  std::ranges::move(contradictions(parsed.config, false), std::back_inserter(problems));
  if (parsed.schedule && !parsed.dry_run) {
    problems.emplace_back("--schedule prints what a dry run plans; give --dry-run with it");
  }
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& serve_page() {
  static const CommandPage page = {"serve", "Answers requests over HTTP, in OpenAI's form", usage,
                                   flags, read};
  return page;
}

}  // namespace sluice::launcher
