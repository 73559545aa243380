#include "comm/signal_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

[[noreturn]] void throw_errno(const char* call) {
  throw Error(
      ExitStatus::failure,
      fmt::format("{} failed while preparing for signals: {}; raise the limit of open files "
                  "(ulimit -n) if it is too low.",
                  call, std::strerror(errno)));
}

}  // namespace

SignalWatch::SignalWatch(std::function<void(int)> answer) : answer_(std::move(answer)) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGCONT);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    errno = error;
    throw_errno("pthread_sigmask");
  }
  signals_ = signalfd(-1, &set, SFD_CLOEXEC);
  if (signals_ < 0) throw_errno("signalfd");
  stop_ = eventfd(0, EFD_CLOEXEC);
  if (stop_ < 0) {
    close(signals_);
    throw_errno("eventfd");
  }
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  const std::uint64_t one = 1;
  // A counter at 0 takes a 1 without fail; there is no other writer.
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof one);
  thread_.join();
  close(stop_);
  close(signals_);
}

void SignalWatch::watch() {
  while (true) {
    std::array<pollfd, 2> files{{{signals_, POLLIN, 0}, {stop_, POLLIN, 0}}};
    if (poll(files.data(), files.size(), -1) < 0)
      continue;  // EINTR: nothing else can be wrong here
    if (files[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      answer_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace sluice::comm
