#include "launcher/bench/child_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "kernels/device/error.h"
#include "launcher/launch/mpirun_line.h"
#include "launcher/process/child_process.h"

namespace sluice::launcher {

namespace {

/// Both its outputs go to `log`; a signal to this process goes on to the child, so that mpirun ends
/// its ranks. Returns the child's status, as a shell says it. Throws Error where signal n came
/// meanwhile: ExitStatus::stopped, or 128 + n where it was not SIGTERM or SIGUSR1.
int run(const std::vector<std::string>& words, const std::filesystem::path& log) {
  HeldSignals signals;
  ChildProcess child(words, signals, log);
  int caught = 0;
  std::optional<int> end;
  while (!end) {
    const int signal = *signals.wait(std::nullopt);
    end = child.end();
    if (signal == SIGCHLD) continue;
    caught = signal;
    child.send(signal);
  }
  while (const auto late = signals.wait(std::chrono::milliseconds(0))) {
    if (*late != SIGCHLD) caught = *late;
  }
  if (caught != 0) throw_on_signal(caught);
  return *end;
}

}  // namespace

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string last_words(const std::string& text) {
  const std::size_t own = text.rfind("sluice: ");
  if (own != std::string::npos) return text.substr(own + 8, text.find('\n', own) - own - 8);
  const std::size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "it said nothing";
  const std::size_t line = text.rfind('\n', end);
  const std::size_t begin = line == std::string::npos ? 0 : line + 1;
  return text.substr(begin, end + 1 - begin);
}

void throw_on_signal(std::optional<int> signal) {
  if (!signal || *signal == SIGCHLD) return;
  const bool is_wish = *signal == SIGTERM || *signal == SIGUSR1;
  throw Error(is_wish ? ExitStatus::stopped : static_cast<ExitStatus>(128 + *signal),
              fmt::format("ended by signal {} during a run", *signal));
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "sluice-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw IoError(
        fmt::format("{}: cannot be made: {}", name, std::generic_category().message(errno)));
  }
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Json run_generate(int ranks, const std::vector<std::string>& words,
                  const std::filesystem::path& folder) {
  const std::filesystem::path report = folder / "report.json";
  const std::filesystem::path log = folder / "log.txt";
  std::filesystem::remove(report);
  std::vector<std::string> all = {"generate", "--quiet", "--report", report.string()};
  all.insert(all.end(), words.begin(), words.end());
  RankStart start;
  start.ranks = ranks;
  start.is_root = ::geteuid() == 0;
  if (const int status = run(rank_command(start, own_program(), all), log); status != 0) {
    const auto exit = status > 128 ? ExitStatus::failure : static_cast<ExitStatus>(status);
    throw Error(exit, fmt::format("a run on {} rank{} failed: {}", ranks, ranks == 1 ? "" : "s",
                                  last_words(text_of(log))));
  }
  try {
    return Json::parse(text_of(report));
  } catch (const JsonError& error) {
    throw InputError(fmt::format("{}: cannot be read: {}", report.string(), error.what()));
  }
}

}  // namespace sluice::launcher
