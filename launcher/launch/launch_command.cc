#include "launcher/launch/launch_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>

#include "comm/launch.h"
#include "kernels/device/error.h"
#include "launcher/config/cli.h"
#include "launcher/launch/mpirun_line.h"
#include "launcher/launch/restart_rule.h"
#include "launcher/process/child_process.h"

namespace sluice::launcher {

namespace {

using std::chrono::milliseconds;

/// After that a run which was asked to stop is ended: ranks end by themselves within 10 s.
constexpr milliseconds kStopTime{12000};
constexpr milliseconds kServerStopTime{42000};  // answers under way get 30 s
constexpr milliseconds kEndTime{5000};          // from one attempt to end it to the next
/// How often a run over several hosts is looked at, and how often in a row it may be without ranks
/// on this host, where it had some.
constexpr milliseconds kLookTime{1000};
constexpr int kMostLooks = 5;

void say(const std::string& sentence) {
  std::cerr << fmt::format("sluice: launch: {}\n", sentence);
}

/// What a run leaves on disk, as far as it grows when there is something new.
std::uintmax_t left_by(const JobConfig& job) {
  std::uintmax_t bytes = 0;
  if (job.output.empty() || job.output == "-") return 0;
  for (const char* suffix : {"", ".journal"}) {
    std::error_code none;
    const std::uintmax_t size = std::filesystem::file_size(job.output + suffix, none);
    if (!none) bytes += size;
  }
  return bytes;
}

/// The ranks of this host have ended, but mpirun has not: it waits for a host that it does not
/// reach, until that is there again.
class AbandonedRun {
 public:
  /// What is seen now. True: it has been so for long enough.
  bool look(bool has_ranks) {
    had_ranks_ = had_ranks_ || has_ranks;
    looks_ = has_ranks || !had_ranks_ ? 0 : looks_ + 1;
    if (looks_ == kMostLooks) {
      say("the ranks of this host have ended, but mpirun waits for a host that it does not reach; "
          "ending mpirun");
    }
    return is();
  }
  bool is() const { return looks_ >= kMostLooks; }

 private:
  bool had_ranks_ = false;
  int looks_ = 0;
};

class Launch {
 public:
  explicit Launch(const LaunchArguments& arguments)
      : arguments_(arguments), rule_(arguments.max_restarts) {}

  int run() {
    std::vector<std::string> words = arguments_.words;
    for (;;) {
      const std::uintmax_t before = left_by(arguments_.config.job);
      const int status = run_once(words);
      if (signal_ != 0) return status_after_signal(status);
      const bool has_news = left_by(arguments_.config.job) != before;
      const RestartRule::Verdict verdict = rule_.judge(status, has_news);
      if (!verdict.again) {
        if (!verdict.reason.empty()) say(verdict.reason);
        return verdict.status;
      }
      words = resumed(arguments_);
      say(fmt::format("{}; starting again in {} s (restart {} of {})", verdict.reason,
                      verdict.pause.count(), rule_.restarts(), arguments_.max_restarts));
      if (!pause(verdict.pause)) return status_after_signal(static_cast<int>(ExitStatus::stopped));
    }
  }

 private:
  int run_once(const std::vector<std::string>& words) {
    const std::string program = own_program();
    const std::vector<std::string> command = rank_command(arguments_.start, program, words);
    std::vector<const char*> shown;
    for (const std::string& word : command) shown.push_back(word.c_str());
    if (!arguments_.config.report.quiet) {
      say(command_line_text(static_cast<int>(shown.size()), shown.data()));
    }
    insists_ = false;
    uses_mpirun_ = command.front() == "mpirun";
    ChildProcess child(command, signals_);
    std::optional<milliseconds> time;  // until the next attempt to end it
    AbandonedRun abandoned;
    for (;;) {
      const bool looks = !time && !arguments_.start.is_one_host;
      const std::optional<int> signal = signals_.wait(looks ? kLookTime : time);
      if (const auto end = child.end()) {
        return abandoned.is() ? static_cast<int>(ExitStatus::peer_lost) : *end;
      }
      if (signal == SIGCHLD) continue;
      if (looks && !signal && !abandoned.look(child.is_running(program))) continue;
      time = ask_to_end(child, signal);
    }
  }

  /// A signal has come, or the time of the last attempt is over.
  milliseconds ask_to_end(const ChildProcess& child, std::optional<int> signal) {
    if (signal && signal_ == 0) {
      signal_ = *signal;
      say(fmt::format("signal {}: asking the run to stop", *signal));
      // mpirun kills its ranks at SIGTERM and SIGINT; SIGUSR1 it passes on.
      child.send(uses_mpirun_ ? SIGUSR1 : SIGTERM);
      return stop_time();
    }
    if (signal && !(*signal == SIGINT && signal_ == SIGINT)) return stop_time();  // asked already
    child.send(std::exchange(insists_, true) ? SIGKILL : SIGTERM);
    return kEndTime;
  }

  milliseconds stop_time() const {
    return arguments_.words.front() == "serve" ? kServerStopTime : kStopTime;
  }

  bool pause(std::chrono::seconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now());
      const std::optional<int> signal = signals_.wait(std::max(left, milliseconds(0)));
      if (!signal) return true;
      if (*signal == SIGCHLD) continue;
      signal_ = *signal;
      say(fmt::format("signal {} before the restart: the same command goes on with --resume",
                      *signal));
      return false;
    }
  }

  /// The run may have come to its end before it heard.
  int status_after_signal(int status) const {
    if (status < 75 && status != static_cast<int>(ExitStatus::failure) &&
        status != static_cast<int>(ExitStatus::peer_lost)) {
      return status;
    }
    const bool is_wish = signal_ == SIGTERM || signal_ == SIGUSR1;
    return is_wish ? static_cast<int>(ExitStatus::stopped) : 128 + signal_;
  }

  const LaunchArguments& arguments_;
  RestartRule rule_;
  HeldSignals signals_;
  int signal_ = 0;  // that asked to stop
  bool insists_ = false;
  bool uses_mpirun_ = true;
};

}  // namespace

std::vector<std::string> resumed(const LaunchArguments& arguments) {
  std::vector<std::string> words = arguments.words;
  const JobConfig& job = arguments.config.job;
  const bool keeps = job.output != "-" && job.output != kNowhere;
  if (job.resume || job.input.empty() || !keeps) return words;
  std::erase(words, "--overwrite");
  words.emplace_back("--resume");
  return words;
}

int launch(const LaunchArguments& arguments) {
  if (const comm::Launch started = comm::find_launch(); !started.alone()) {
    throw ConfigError(
        fmt::format("sluice launch starts the ranks itself, but {} has started several of it; "
                    "start one, or sluice {}",
                    started.launcher, arguments.words.front()));
  }
  return Launch(arguments).run();
}

}  // namespace sluice::launcher
