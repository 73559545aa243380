#include "launcher/report/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "launcher/config/sizes.h"
#include "launcher/report/durations.h"

namespace sluice::launcher {

namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kBarEvery{250};
constexpr std::chrono::seconds kLogEvery{10};
constexpr int kMostBarCells = 30;
constexpr int kLeastBarCells = 5;
constexpr double kRateSeconds = 10;  // the rate forgets what is older than about this

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

Surroundings look_around(int descriptor) {
  Surroundings surroundings;
  surroundings.is_terminal = ::isatty(descriptor) == 1;
  surroundings.under_mpirun = is_set("OMPI_COMM_WORLD_SIZE") || is_set("PMIX_RANK");
  surroundings.no_color = is_set("NO_COLOR");
  surroundings.is_dumb = !is_set("TERM") || std::string_view(std::getenv("TERM")) == "dumb";
  winsize size{};
  if (surroundings.is_terminal && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    surroundings.columns = size.ws_col;
  }
  return surroundings;
}

ProgressStyle progress_style(const ReportConfig& report, const Surroundings& surroundings) {
  ProgressStyle style;
  const bool terminal =
      surroundings.is_terminal && !surroundings.under_mpirun && !surroundings.is_dumb;
  style.form = report.quiet ? ProgressForm::silent
               : terminal   ? ProgressForm::bar
                            : ProgressForm::log;
  style.color = report.color == ColorMode::always ||
                (report.color == ColorMode::automatic && terminal && !surroundings.no_color);
  style.columns = surroundings.columns;
  return style;
}

Progress::Progress(std::ostream& out, ProgressStyle style, std::string what, Unit unit,
                   std::uint64_t total, Now now)
    : out_(out),
      style_(style),
      what_(std::move(what)),
      unit_(unit),
      total_(total),
      now_(std::move(now)),
      start_(now_()),
      shown_(start_) {}

Progress::~Progress() { finish(); }

void Progress::update(std::uint64_t done, std::uint64_t tokens) {
  if (style_.form == ProgressForm::silent || finished_) return;
  if (!begun_) first_done_ = tokens == 0 && unit_ == Unit::prompts ? done : 0;
  const bool first = !begun_;
  begun_ = true;
  done_ = done;
  tokens_ = tokens;
  const auto now = now_();
  const bool due = style_.form == ProgressForm::bar ? first || now - shown_ >= kBarEvery
                                                    : now - shown_ >= kLogEvery;
  if (due) show(now);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (!begun_ || style_.form == ProgressForm::silent) return;
  const bool bar = style_.form == ProgressForm::bar;
  if (bar || done_ != shown_done_) {
    show(now_());
  }
  if (bar) out_ << '\n' << std::flush;
}

void Progress::show(std::chrono::steady_clock::time_point now) {
  const std::uint64_t amount = unit_ == Unit::bytes ? done_ : tokens_;
  const double interval = Seconds(now - shown_).count();
  if (interval > 0 && amount >= shown_amount_) {
    const double latest = static_cast<double>(amount - shown_amount_) / interval;
    const double newest = 1 - std::exp(-interval / kRateSeconds);
    rate_ = rate_ == 0 ? latest : newest * latest + (1 - newest) * rate_;
    shown_amount_ = amount;
  }
  const double elapsed = Seconds(now - start_).count();
  if (finished_ && elapsed > 0) rate_ = static_cast<double>(amount) / elapsed;  // of the whole
  shown_ = now;
  shown_done_ = done_;
  const std::string text = line(now);
  if (style_.form == ProgressForm::log) {
    out_ << text << '\n' << std::flush;
  } else {
    // The line is filled up rather than erased by an escape code: NO_COLOR terminals may have none.
    out_ << '\r' << bar(text) << std::flush;
  }
}

std::string Progress::line(std::chrono::steady_clock::time_point now) const {
  const double elapsed = Seconds(now - start_).count();
  const bool bytes = unit_ == Unit::bytes;
  std::string text =
      fmt::format("{}: {}", what_, bytes ? format_size(done_) : std::to_string(done_));
  if (total_ > 0) {
    text += fmt::format("/{}", bytes ? format_size(total_) : std::to_string(total_));
  }
  if (unit_ == Unit::figures) text += " figures";
  if (unit_ == Unit::prompts) text += total_ == 1 ? " prompt" : " prompts";
  if (total_ > 0) {
    text += fmt::format(" ({} %)", static_cast<int>(100.0 * static_cast<double>(done_) /
                                                    static_cast<double>(total_)));
  }
  if (rate_ > 0) {
    text += bytes ? fmt::format(", {}/s", format_size(static_cast<std::uint64_t>(rate_)))
                  : fmt::format(", {:.1f} tokens/s", rate_);
  }
  const std::string expected =
      expected_seconds_ > 0 ? fmt::format(" (predicted: {})", format_seconds(expected_seconds_))
                            : std::string();
  if (total_ > 0 && done_ >= total_) return text + ", " + format_seconds(elapsed) + expected;
  if (total_ > 0 && done_ > first_done_) {
    const double left =
        elapsed * static_cast<double>(total_ - done_) / static_cast<double>(done_ - first_done_);
    text += fmt::format(", {} left", format_seconds(left));
  }
  if (!expected.empty()) text += fmt::format(", {}{}", format_seconds(elapsed), expected);
  return text;
}

std::string Progress::bar(const std::string& text) const {
  // One column stays free: writing into the last one makes some terminals begin a new line.
  const int width = std::max(style_.columns - 1, 1);
  const int room = width - static_cast<int>(text.size()) - 3;
  const int cells = total_ > 0 ? std::min(kMostBarCells, room) : 0;
  if (cells < kLeastBarCells) {
    std::string cut = text.substr(0, static_cast<std::size_t>(width));
    return cut + std::string(static_cast<std::size_t>(width) - cut.size(), ' ');
  }
  const double part = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const auto full = static_cast<std::size_t>(part * cells);
  const std::string empty(static_cast<std::size_t>(cells) - full, '.');
  const std::string rest(static_cast<std::size_t>(room - cells), ' ');
  return fmt::format("[{}{}{}{}] {}{}", style_.color ? "\x1b[36m" : "", std::string(full, '#'),
                     style_.color ? "\x1b[0m" : "", empty, text, rest);
}

}  // namespace sluice::launcher
