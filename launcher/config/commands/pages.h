// A command is a page in this folder: its name, its help and the reader of its flags. A new one is
// a file here, a line in pages.cc, its arguments in cli.h and a call in main.cc.
#pragma once

#include <string>
#include <vector>

#include "launcher/config/cli.h"
#include "launcher/config/cli_help.h"
#include "launcher/config/given_flags.h"

namespace sluice::launcher {

struct CommandPage {
  const char* name;
  const char* description;  // a line of `sluice --help`
  std::string (*usage)();   // how it is called, with examples
  /// In the order in which they are shown. A flag that a key of the schema lists gets that key.
  std::vector<FlagGroup> (*flags)();
  /// Sets ParsedCommand::command and its arguments. Throws ConfigError with a line per problem.
  void (*read)(GivenFlags& given, const Words& words, ParsedCommand& parsed);
};

const CommandPage& bench_page();
const CommandPage& calibrate_page();
const CommandPage& chat_page();
const CommandPage& generate_page();
const CommandPage& merge_page();
const CommandPage& score_page();
const CommandPage& serve_page();
const CommandPage& launch_page();
const CommandPage& plan_page();
const CommandPage& simulate_page();
const CommandPage& inspect_page();
const CommandPage& tokenize_page();

/// All of them, in the order of `sluice --help`.
const std::vector<const CommandPage*>& command_pages();

}  // namespace sluice::launcher
