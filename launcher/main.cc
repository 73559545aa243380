// The program: reads the command line, runs one command, turns what went wrong into one sentence
// and an exit status.
#include <csignal>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>

#include "comm/failure.h"
#include "comm/launch.h"
#include "kernels/device/error.h"
#include "launcher/bench/bench_command.h"
#include "launcher/calibrate/calibrate_command.h"
#include "launcher/chat/chat_template.h"
#include "launcher/chat/tokenize_command.h"
#include "launcher/config/cli.h"
#include "launcher/config/config_yaml.h"
#include "launcher/generate/generate_command.h"
#include "launcher/launch/launch_command.h"
#include "launcher/merge/merge_command.h"
#include "launcher/model/inspect_command.h"
#include "launcher/model/model_folder.h"
#include "launcher/plan/plan_command.h"
#include "launcher/plan/simulate_command.h"
#include "launcher/score/score_command.h"
#include "launcher/serve/chat_command.h"
#include "launcher/serve/serve_command.h"
#include "launcher/tokenizer/tokenizer_facts.h"

namespace {

using sluice::ExitStatus;
namespace launcher = sluice::launcher;

/// Every process of a job meets the same wrong flag: the first one says so.
bool speaks_for_all() { return sluice::comm::find_launch().rank == 0; }

/// In one write: mpirun, which tells of the failure itself, would put its own lines between parts.
void say(const std::string& sentence) {
  if (speaks_for_all()) std::cerr << "sluice: " + sentence + '\n';
}

ExitStatus tokenize(const launcher::TokenizeArguments& arguments) {
  const std::filesystem::path folder = launcher::find_model_folder(arguments.model);
  const auto tokenizer = launcher::Tokenizer::open(folder);
  const auto chat = launcher::ChatTemplate::open(folder, tokenizer);
  if (arguments.messages) chat.check();
  std::ios::sync_with_stdio(false);
  if (arguments.explain) {
    std::cout << launcher::explain_tokenizer(tokenizer);
    return ExitStatus::done;
  }
  return launcher::tokenize_lines(
      tokenizer, {arguments.jsonl, arguments.decode, arguments.messages ? &chat : nullptr},
      std::cin, std::cout, std::cerr);
}

ExitStatus run(int argc, char** argv) {
  const launcher::ParsedCommand parsed = launcher::parse_command_line(argc, argv);
  switch (parsed.command) {
    case launcher::Command::print:
      if (speaks_for_all()) std::cout << parsed.text;
      return ExitStatus::done;
    case launcher::Command::generate:
      if (parsed.print_config) {
        if (speaks_for_all()) std::cout << launcher::to_yaml(parsed.config);
        return ExitStatus::done;
      }
      return launcher::generate(parsed.config, {parsed.dry_run, parsed.schedule},
                                launcher::command_line_text(argc, argv), say);
    case launcher::Command::plan:
      launcher::plan_run(parsed.config, parsed.plan, std::cout);
      return ExitStatus::done;
    case launcher::Command::simulate:
      launcher::simulate_run(parsed.config, parsed.ranks, launcher::command_line_text(argc, argv),
                             std::cout);
      return ExitStatus::done;
    case launcher::Command::inspect:
      return static_cast<ExitStatus>(launcher::inspect(
          parsed.inspect.model,
          {parsed.inspect.device_memory, parsed.inspect.host_memory, parsed.inspect.stages,
           parsed.inspect.compress_weight, parsed.inspect.json},
          std::cout));
    case launcher::Command::calibrate:
      return launcher::calibrate(parsed.calibrate, std::cout, say);
    case launcher::Command::tokenize:
      return tokenize(parsed.tokenize);
    case launcher::Command::merge:
      return launcher::merge(parsed.merge, std::cerr);
    case launcher::Command::score:
      return launcher::score(parsed.config, parsed.score, {parsed.dry_run, parsed.schedule},
                             launcher::command_line_text(argc, argv), say, std::cout);
    case launcher::Command::chat:
      return launcher::chat(parsed.config, parsed.serve, {parsed.dry_run, parsed.schedule},
                            launcher::command_line_text(argc, argv), say, std::cout);
    case launcher::Command::serve:
      return launcher::serve(parsed.config, parsed.serve, {parsed.dry_run, parsed.schedule},
                             launcher::command_line_text(argc, argv), say, std::cout);
    case launcher::Command::launch:
      return static_cast<ExitStatus>(launcher::launch(parsed.launch));
    case launcher::Command::bench:
      launcher::bench(parsed.bench);
      return ExitStatus::done;
  }
  return ExitStatus::failure;
}

}  // namespace

int main(int argc, char** argv) {
  ExitStatus status = ExitStatus::failure;
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of write(), named with its file
  try {
    status = run(argc, argv);
    std::cout.flush();
    if (!std::cout) throw sluice::IoError("standard output: cannot be written");
  } catch (...) {
    const sluice::Error error = sluice::comm::as_error(std::current_exception());
    status = error.status();
    say(error.what());
  }
  return static_cast<int>(status);
}
