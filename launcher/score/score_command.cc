#include "launcher/score/score_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>

#include "launcher/score/accuracy.h"
#include "launcher/score/eval_rows.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::string read_prefix(const std::string& name) {
  if (name.empty()) return {};
  std::ifstream file(name, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file) {
    throw InputError(fmt::format("--prefix {}: cannot be read: {}", name, std::strerror(errno)));
  }
  if (!is_valid_utf8(text)) {
    throw InputError(fmt::format("--prefix {}: this is no UTF-8 text; save it as UTF-8", name));
  }
  return text;
}

}  // namespace

ExitStatus score(const RunConfig& config, const ScoreArguments& arguments, DryRun dry_run,
                 const std::string& command_line,
                 const std::function<void(const std::string& sentence)>& say, std::ostream& out) {
  EvalOptions options;
  Accuracy accuracy;
  JobHooks hooks;
  bool is_head = false;
  hooks.on_open = [&] {
    is_head = true;
    options = {read_prefix(arguments.prefix_file), arguments.bos};
  };
  hooks.translate = [&options](const Json& row) { return row_of_question(row, options); };
  hooks.on_record = [&accuracy](std::string_view record) { accuracy.add(record); };
  const ExitStatus status = generate(config, dry_run, command_line, say, hooks);
  const bool ran = status == ExitStatus::done || status == ExitStatus::rows_failed;
  if (!is_head || dry_run.only_plan || !(ran || accuracy.plain().count() > 0)) return status;
  if (accuracy.failed() > 0) say(accuracy.failure());
  out << accuracy_text(accuracy);
  return status;
}

}  // namespace sluice::launcher
