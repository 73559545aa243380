#include <algorithm>

#include "launcher/config/commands/pages.h"
#include "launcher/config/commands/run_flags.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice chat --model DIR|ID [--system TEXT|--persona FILE] [FLAGS]
  mpirun -n STAGES --bind-to none sluice chat --model DIR|ID [FLAGS]

Examples:
  sluice chat --model ./llama-3-8b-instruct --system "You answer in rhymes."

A chat in the terminal, with line editing; the model needs a chat template. Ctrl-C stops an answer,
Ctrl-D ends. /help names the commands: /system, /reset, /save. Over mpirun lines have no editing.

)";
}

constexpr const char* kOfChats[] = {"--chat-template", "--max-model-len"};

std::vector<FlagGroup> flags() {
  std::vector<FlagGroup> groups = serve_page().flags();
  for (FlagGroup& group : groups) {
    std::erase_if(group.flags, [](const FlagHelp& help) { return help.flag == "--lora"; });
    if (group.title != "Server") continue;
    group.title = "Chat";
    std::erase_if(group.flags, [](const FlagHelp& help) {
      return std::ranges::find(kOfChats, help.flag) == std::end(kOfChats);
    });
    group.flags.insert(group.flags.begin(),
                       {{"--system", "TEXT", "the system's message, in front of the conversation"},
                        {"--persona", "FILE", "the same, from a file"}});
  }
  return groups;
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::chat;
  read_run_config(given, words, "chat", parsed.config);
  parsed.dry_run = given.has("--dry-run");
  parsed.schedule = given.has("--schedule");
  ServeArguments& chat = parsed.serve;
  std::vector<std::string> problems;
  chat.system = given.value("--system");
  chat.persona_file = given.value("--persona");
  chat.chat_template = given.value("--chat-template");
  read_count(given, "--max-model-len", 1, chat.max_model_len, problems);
  if (!chat.system.empty() && !chat.persona_file.empty()) {
    problems.emplace_back("--system and --persona both give the system's message: give one");
  }
  parsed.config.job = {};
  parsed.config.generation.echo = false;
  parsed.config.generation.sampling.logprobs = -1;
  std::ranges::move(contradictions(parsed.config, false), std::back_inserter(problems));
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& chat_page() {
  static const CommandPage page = {"chat", "A chat with the model in the terminal", usage, flags,
                                   read};
  return page;
}

}  // namespace sluice::launcher
