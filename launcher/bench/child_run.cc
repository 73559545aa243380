#include "launcher/bench/child_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>

#include "comm/world.h"
#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The last line that is sluice's own, else the last of all.
std::string last_words(const std::string& text) {
  const std::size_t own = text.rfind("sluice: ");
  if (own != std::string::npos) return text.substr(own + 8, text.find('\n', own) - own - 8);
  const std::size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "it said nothing";
  const std::size_t line = text.rfind('\n', end);
  const std::size_t begin = line == std::string::npos ? 0 : line + 1;
  return text.substr(begin, end + 1 - begin);
}

/// Open MPI refuses root, and more ranks than cores, unless told so.
void allow_ranks() {
  if (::geteuid() == 0) {
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
  }
  ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
}

std::atomic<pid_t> running_child{0};
std::atomic<int> caught_signal{0};

void pass_on(int signal) {
  caught_signal = signal;
  if (const pid_t child = running_child; child > 0) ::kill(child, signal);
}

/// While it lives, a signal that would end this process goes to the child instead, so that mpirun
/// ends its ranks and what is temporary is removed.
class SignalsToChild {
 public:
  SignalsToChild() {
    struct sigaction action = {};
    action.sa_handler = pass_on;
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &action, &before_[i]);
  }
  ~SignalsToChild() {
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  SignalsToChild(const SignalsToChild&) = delete;
  SignalsToChild& operator=(const SignalsToChild&) = delete;

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kSignals.size()> before_ = {};
};

/// Both its outputs go to `log`. Returns what waitpid() says. Throws Error where signal n came
/// meanwhile: comm::kStopped, or 128 + n where it was not SIGTERM.
int run(const std::vector<std::string>& words, const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  const SignalsToChild signals;
  pid_t child = 0;
  const int error =
      ::posix_spawnp(&child, arguments.front(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw IoError(fmt::format("{}: cannot be started: {}", words.front(),
                              std::generic_category().message(error)));
  }
  running_child = child;
  if (const int signal = caught_signal) ::kill(child, signal);  // it came before the line above
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  running_child = 0;
  if (const int signal = caught_signal) {
    throw Error(signal == SIGTERM ? comm::kStopped : static_cast<ExitStatus>(128 + signal),
                fmt::format("ended by signal {} during a run", signal));
  }
  return status;
}

}  // namespace

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

std::vector<std::string> rank_command(int ranks, const std::string& program,
                                      const std::vector<std::string>& words) {
  std::vector<std::string> command;
  if (ranks > 1) command = {"mpirun", "-n", std::to_string(ranks), "--bind-to", "none"};
  command.push_back(program);
  command.insert(command.end(), words.begin(), words.end());
  return command;
}

Json run_generate(int ranks, const std::vector<std::string>& words,
                  const std::filesystem::path& folder) {
  const std::filesystem::path report = folder / "report.json";
  const std::filesystem::path log = folder / "log.txt";
  std::filesystem::remove(report);
  std::vector<std::string> all = {"generate", "--quiet", "--report", report.string()};
  all.insert(all.end(), words.begin(), words.end());
  allow_ranks();
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const int status = run(rank_command(ranks, program, all), log);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    const ExitStatus exit =
        WIFEXITED(status) ? static_cast<ExitStatus>(WEXITSTATUS(status)) : ExitStatus::failure;
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
