#include "launcher/config/commands/pages.h"

namespace sluice::launcher {

namespace {

std::string usage() {
  return R"(
Usage:
  sluice tokenize --model DIR|ID [FLAGS]

Examples:
  echo "Hello, world" | sluice tokenize --model facebook/opt-125m
  echo "2 31414 6 232" | sluice tokenize --model facebook/opt-125m --decode
  echo '{"messages": [{"role": "user", "content": "Hi"}]}' | sluice tokenize --model DIR --messages

)";
}

std::vector<FlagGroup> flags() {
  return {
      {"Flags",
       {{"--model,--path", "DIR|ID",
         "model folder, .gguf file, or hub id in the local Hugging Face cache"},
        {"--jsonl", "", R"(lines are {"text": "..."} and become {"ids": [...]})"},
        {"--decode", "", "the other way: ids to text"},
        {"--messages", "",
         R"(lines are {"messages": [...], "tools": [...], "add_generation_prompt": true} and )"
         R"(become {"text": ..., "ids": [...]} by the model's chat template)"},
        {"--explain", "", "say what was read: kind, files, normalizer, pattern, added tokens"}}}};
}

void read(GivenFlags& given, const Words& words, ParsedCommand& parsed) {
  parsed.command = Command::tokenize;
  TokenizeArguments& arguments = parsed.tokenize;
  std::vector<std::string> problems;
  given.check("tokenize", words, problems);
  arguments.model = given.value("--model");
  arguments.jsonl = given.has("--jsonl");
  arguments.decode = given.has("--decode");
  arguments.explain = given.has("--explain");
  arguments.messages = given.has("--messages");
  if (arguments.messages && arguments.decode) {
    problems.emplace_back("--messages and --decode contradict each other; give one of them");
  }
  if (arguments.model.empty()) problems.emplace_back("no model: give --model DIR, or a hub id");
  if (!problems.empty()) refuse(problems);
}

}  // namespace

const CommandPage& tokenize_page() {
  static const CommandPage page = {
      "tokenize", "Turns text on standard input into token ids, and back", usage, flags, read};
  return page;
}

}  // namespace sluice::launcher
