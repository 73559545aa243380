#include "launcher/process/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <system_error>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD};

/// In the child, between fork() and exec(). Returns errno's value.
int become(char* const* arguments, const HeldSignals& signals, const char* log, pid_t parent) {
  // The parent may have died before it could be watched.
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent) return ECANCELED;
  if (log == nullptr) {
    setpgid(0, 0);
  } else {
    const int in = open("/dev/null", O_RDONLY);
    const int out = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0) {
      return errno;
    }
  }
  sigprocmask(SIG_SETMASK, &signals.before(), nullptr);
  execvp(arguments[0], arguments);
  return errno;
}

}  // namespace

HeldSignals::HeldSignals() {
  sigemptyset(&held_);
  for (const int signal : kSignals) sigaddset(&held_, signal);
  pthread_sigmask(SIG_BLOCK, &held_, &before_);
}

HeldSignals::~HeldSignals() {
  while (wait(std::chrono::milliseconds(0))) {  // what came too late for anybody to hear
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::optional<int> HeldSignals::wait(std::optional<std::chrono::milliseconds> time) {
  if (!time) {
    int signal = 0;
    while (sigwait(&held_, &signal) != 0) {
    }
    return signal;
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*time);
  timespec most = {};
  most.tv_sec = seconds.count();
  most.tv_nsec = std::chrono::nanoseconds(*time - seconds).count();
  const int signal = sigtimedwait(&held_, nullptr, &most);
  return signal > 0 ? std::optional(signal) : std::nullopt;
}

ChildProcess::ChildProcess(const std::vector<std::string>& words, const HeldSignals& signals,
                           const std::filesystem::path& log) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::array<int, 2> ends = {};  // the child writes there why it could not start
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw IoError(fmt::format("no pipe to {} can be made: {}", words.front(),
                              std::generic_category().message(errno)));
  }
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    const int error =
        become(arguments.data(), signals, log.empty() ? nullptr : log.c_str(), parent);
    [[maybe_unused]] const ssize_t written = write(ends[1], &error, sizeof error);
    _exit(127);
  }
  int error = pid_ < 0 ? errno : 0;
  close(ends[1]);
  if (pid_ > 0 && read(ends[0], &error, sizeof error) != sizeof error) error = 0;
  close(ends[0]);
  if (error == 0) return;
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
  throw IoError(fmt::format("{}: cannot be started: {}", words.front(),
                            std::generic_category().message(error)));
}

ChildProcess::~ChildProcess() {
  if (end_) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void ChildProcess::send(int signal) const {
  if (!end_) kill(pid_, signal);
}

std::optional<int> ChildProcess::end() {
  if (end_) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  end_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return end_;
}

bool ChildProcess::is_running(const std::filesystem::path& program) const {
  std::error_code gone;  // threads and processes end while they are looked at
  const auto threads =
      std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_), gone);
  if (gone) return false;
  for (const std::filesystem::directory_entry& thread : threads) {
    std::ifstream children(thread.path() / "children");
    for (pid_t child = 0; children >> child;) {
      if (std::filesystem::read_symlink(fmt::format("/proc/{}/exe", child), gone) == program) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace sluice::launcher
