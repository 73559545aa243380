// How far a job is: a bar on a terminal, a line now and then in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>

#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// What standard error is connected to. Under mpirun it is a pipe (and standard output a pty, even
/// when it is redirected, so that isatty() of that says nothing).
struct Surroundings {
  bool is_terminal = false;
  bool under_mpirun = false;
  bool no_color = false;  // NO_COLOR is set and not empty
  bool is_dumb = false;   // TERM is "dumb" or not set
  int columns = 80;
};

/// Asks the system and the environment about a file descriptor.
Surroundings look_around(int descriptor);

enum class ProgressForm : std::uint8_t { silent, log, bar };

struct ProgressStyle {
  ProgressForm form = ProgressForm::log;
  bool color = false;
  int columns = 80;
};

/// A bar only on a terminal that can overwrite a line; colour as ReportConfig::color says, NO_COLOR
/// heeded unless it says always.
ProgressStyle progress_style(const ReportConfig& report, const Surroundings& surroundings);

/// Used by one thread.
class Progress {
 public:
  enum class Unit : std::uint8_t { prompts, bytes, figures };
  using Now = std::function<std::chrono::steady_clock::time_point()>;

  /// `what` begins each line: "generating". `total` 0: not known. `out` must outlive it.
  Progress(
      std::ostream& out, ProgressStyle style, std::string what, Unit unit, std::uint64_t total,
      Now now = [] { return std::chrono::steady_clock::now(); });
  ~Progress();  // ends a bar's line

  /// All of it was predicted to take so long: said beside how far it is.
  void expect(double seconds) { expected_seconds_ = seconds; }

  /// `done` of the total and `tokens` of this run; `tokens` is not used for bytes. A first call
  /// with no tokens says what a resumed job began with. Cheap; shows something at most four times a
  /// second on a terminal, every 10 s in a log.
  void update(std::uint64_t done, std::uint64_t tokens = 0);
  /// Shows the last state, with the rate of the whole run, and ends the line; later updates show
  /// nothing.
  void finish();

 private:
  std::string line(std::chrono::steady_clock::time_point now) const;
  std::string bar(const std::string& text) const;
  void show(std::chrono::steady_clock::time_point now);

  std::ostream& out_;
  ProgressStyle style_;
  std::string what_;
  Unit unit_;
  std::uint64_t total_;
  Now now_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point shown_;
  std::uint64_t done_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint64_t first_done_ = 0;  // of a resumed job: not done by us
  std::uint64_t shown_amount_ = 0;
  std::uint64_t shown_done_ = 0;
  double rate_ = 0;              // tokens (or bytes) per second, of late
  double expected_seconds_ = 0;  // 0: nobody said
  bool begun_ = false;
  bool finished_ = false;
};

}  // namespace sluice::launcher
