#include "comm/signal_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
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
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGCONT);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    errno = error;
    throw_errno("pthread_sigmask");
  }
  signals_ = signalfd(-1, &set, SFD_CLOEXEC);
  if (signals_ < 0) throw_errno("signalfd");
  // The clock of std::chrono::steady_clock. Read without blocking: an alarm may be set anew
  // meanwhile.
  alarm_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  stop_ = eventfd(0, EFD_CLOEXEC);
  if (alarm_ < 0 || stop_ < 0) {
    const int error = errno;
    close(signals_);
    if (alarm_ >= 0) close(alarm_);
    if (stop_ >= 0) close(stop_);
    errno = error;
    throw_errno(alarm_ < 0 ? "timerfd_create" : "eventfd");
  }
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  const std::uint64_t one = 1;
  // A counter at 0 takes a 1 without fail; there is no other writer.
  [[maybe_unused]] const ssize_t written = write(stop_, &one, sizeof one);
  thread_.join();
  close(stop_);
  close(alarm_);
  close(signals_);
}

void SignalWatch::alarm_at(std::chrono::steady_clock::time_point when) noexcept {
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  const auto since_boot = std::chrono::duration_cast<nanoseconds>(when.time_since_epoch());
  const auto whole = std::chrono::duration_cast<seconds>(since_boot);
  itimerspec time = {};
  time.it_value.tv_sec = whole.count();
  time.it_value.tv_nsec = (since_boot - whole).count();
  timerfd_settime(alarm_, TFD_TIMER_ABSTIME, &time, nullptr);  // cannot fail for a time like this
}

void SignalWatch::watch() {
  while (true) {
    std::array<pollfd, 3> files{{{signals_, POLLIN, 0}, {alarm_, POLLIN, 0}, {stop_, POLLIN, 0}}};
    if (poll(files.data(), files.size(), -1) < 0)
      continue;  // EINTR: nothing else can be wrong here
    if (files[2].revents != 0) return;
    std::uint64_t times = 0;
    if (files[1].revents != 0 &&
        read(alarm_, &times, sizeof times) == static_cast<ssize_t>(sizeof times)) {
      answer_(kAlarm);
    }
    signalfd_siginfo info;
    if (files[0].revents != 0 &&
        read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      answer_(static_cast<int>(info.ssi_signo));
    }
  }
}

}  // namespace sluice::comm
