#include "launcher/report/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

namespace sluice::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ProgressTest : public testing::Test {
 protected:
  Progress make(ProgressStyle style, std::uint64_t total,
                Progress::Unit unit = Progress::Unit::prompts) {
    return Progress(out_, style, "generating", unit, total, [this] { return now_; });
  }
  /// What was written since the last call.
  std::string written() {
    std::string text = out_.str();
    out_.str("");
    return text;
  }

  static constexpr ProgressStyle kLog{ProgressForm::log, false, 80};
  static constexpr ProgressStyle kBar{ProgressForm::bar, false, 80};
  std::ostringstream out_;
  std::chrono::steady_clock::time_point now_{};
};

TEST_F(ProgressTest, ALogGetsALineEveryTenSeconds) {
  Progress progress = make(kLog, 100);
  std::string all;
  for (int i = 0; i < 400; ++i) {  // 40 s
    progress.update(static_cast<std::uint64_t>(i / 10), static_cast<std::uint64_t>(i * 10));
    now_ += milliseconds(100);
    all += written();
  }
  EXPECT_EQ(all,
            "generating: 10/100 prompts (10 %), 100.0 tokens/s, 1 min 30 s left\n"
            "generating: 20/100 prompts (20 %), 100.0 tokens/s, 1 min 20 s left\n"
            "generating: 30/100 prompts (30 %), 100.0 tokens/s, 1 min 10 s left\n");
}

TEST_F(ProgressTest, TheLastLineHasTheWholeRunsRate) {
  Progress progress = make(kLog, 4);
  progress.update(1, 100);
  now_ += seconds(2);
  progress.update(4, 300);
  EXPECT_EQ(written(), "");
  progress.finish();
  EXPECT_EQ(written(), "generating: 4/4 prompts (100 %), 150.0 tokens/s, 2.00 s\n");
  progress.finish();
  progress.update(4, 400);
  EXPECT_EQ(written(), "");
}

TEST_F(ProgressTest, WhatWasPredictedStandsBesideWhatIsMeasured) {
  Progress progress = make(kLog, 4);
  progress.expect(30);
  progress.update(1, 100);
  now_ += seconds(10);
  progress.update(2, 200);
  EXPECT_EQ(written(),
            "generating: 2/4 prompts (50 %), 20.0 tokens/s, 10.0 s left, 10.0 s (predicted: 30.0 "
            "s)\n");
  now_ += seconds(10);
  progress.update(4, 400);
  progress.finish();
  EXPECT_NE(written().find("20.0 s (predicted: 30.0 s)\n"), std::string::npos);
}

TEST_F(ProgressTest, ABarIsDrawnOverItselfFourTimesASecond) {
  std::size_t updates = 0;
  {
    Progress progress = make(kBar, 1000);
    for (int i = 0; i < 1000; ++i) {  // 1 s
      progress.update(static_cast<std::uint64_t>(i), 0);
      now_ += milliseconds(1);
      const std::string text = written();
      if (text.empty()) continue;
      ++updates;
      EXPECT_EQ(text.size(), 80U) << text;  // the carriage return, and all but the last column
      EXPECT_EQ(text.front(), '\r');
      EXPECT_EQ(text.find('\n'), std::string::npos);
      EXPECT_EQ(text.find('\x1b'), std::string::npos);
    }
    EXPECT_EQ(updates, 4U);
  }
  const std::string end = written();
  EXPECT_EQ(std::count(end.begin(), end.end(), '\n'), 1);  // the destructor ends the line
  EXPECT_EQ(end.back(), '\n');
}

TEST_F(ProgressTest, ABarShowsItsPart) {
  Progress progress = make({ProgressForm::bar, false, 100}, 10);
  now_ += seconds(10);
  progress.update(5, 1000);
  const std::string text = written();
  EXPECT_EQ(text.substr(0, 34), "\r[###############...............] ");
  EXPECT_EQ(text.find("generating: 5/10 prompts (50 %), 100.0 tokens/s, 10.0 s left"), 34U);
}

TEST_F(ProgressTest, ColourIsOnlyWhereItIsWanted) {
  Progress progress = make({ProgressForm::bar, true, 100}, 10);
  progress.update(5, 0);
  EXPECT_NE(written().find("\x1b[36m###"), std::string::npos);
}

TEST_F(ProgressTest, ANarrowTerminalIsNotOverrun) {
  for (const int columns : {1, 2, 10, 40, 60, 66}) {
    Progress progress = make({ProgressForm::bar, false, columns}, 10);
    progress.update(3, 10);
    EXPECT_LE(written().size(), static_cast<std::size_t>(std::max(columns, 2)));
    progress.finish();
    written();
  }
}

TEST_F(ProgressTest, WithoutATotalThereIsNoTimeLeft) {
  Progress progress = make(kLog, 0);
  now_ += seconds(10);
  progress.update(7, 50);
  EXPECT_EQ(written(), "generating: 7 prompts, 5.0 tokens/s\n");
}

TEST_F(ProgressTest, AResumedJobsTimeLeftCountsWhatItDidItself) {
  Progress progress = make(kLog, 100);
  progress.update(80, 0);  // were there already
  now_ += seconds(10);
  progress.update(90, 500);
  EXPECT_EQ(written(), "generating: 90/100 prompts (90 %), 50.0 tokens/s, 10.0 s left\n");
}

TEST_F(ProgressTest, BytesHaveSizes) {
  Progress progress = make(kLog, 4ULL << 30U, Progress::Unit::bytes);
  now_ += seconds(10);
  progress.update(1ULL << 30U);
  EXPECT_EQ(written(), "generating: 1.00 GiB/4.00 GiB (25 %), 102 MiB/s, 30.0 s left\n");
}

TEST_F(ProgressTest, SilentIsSilent) {
  Progress progress = make({ProgressForm::silent, false, 80}, 4);
  now_ += seconds(100);
  progress.update(4, 4);
  progress.finish();
  EXPECT_EQ(written(), "");
}

TEST(ProgressStyle, KnowsTerminalsFromLogs) {
  const Surroundings terminal{true, false, false, false, 120};
  ReportConfig report;
  EXPECT_EQ(progress_style(report, terminal).form, ProgressForm::bar);
  EXPECT_TRUE(progress_style(report, terminal).color);
  EXPECT_EQ(progress_style(report, terminal).columns, 120);

  Surroundings changed = terminal;
  changed.under_mpirun = true;  // a pty of mpirun's, not the user's
  EXPECT_EQ(progress_style(report, changed).form, ProgressForm::log);
  EXPECT_FALSE(progress_style(report, changed).color);
  changed = terminal;
  changed.is_terminal = false;
  EXPECT_EQ(progress_style(report, changed).form, ProgressForm::log);
  changed = terminal;
  changed.is_dumb = true;
  EXPECT_EQ(progress_style(report, changed).form, ProgressForm::log);
  changed = terminal;
  changed.no_color = true;
  EXPECT_EQ(progress_style(report, changed).form, ProgressForm::bar);
  EXPECT_FALSE(progress_style(report, changed).color);
  report.color = ColorMode::always;
  EXPECT_TRUE(progress_style(report, changed).color);
  report.color = ColorMode::never;
  EXPECT_FALSE(progress_style(report, terminal).color);
  report.quiet = true;
  EXPECT_EQ(progress_style(report, terminal).form, ProgressForm::silent);
}

TEST(ProgressStyle, LooksAroundARealFileAndTerminal) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_FALSE(look_around(ends[1]).is_terminal);
  ::close(ends[0]);
  ::close(ends[1]);
  const int control = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(control, 0);
  ASSERT_EQ(::grantpt(control), 0);
  ASSERT_EQ(::unlockpt(control), 0);
  const int terminal = ::open(::ptsname(control), O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(::setenv("NO_COLOR", "1", 1), 0);
  ASSERT_EQ(::setenv("OMPI_COMM_WORLD_SIZE", "2", 1), 0);
  Surroundings surroundings = look_around(terminal);
  EXPECT_TRUE(surroundings.is_terminal);
  EXPECT_TRUE(surroundings.no_color);
  EXPECT_TRUE(surroundings.under_mpirun);
  ASSERT_EQ(::setenv("NO_COLOR", "", 1), 0);  // no-color.org: an empty one does not count
  ASSERT_EQ(::unsetenv("OMPI_COMM_WORLD_SIZE"), 0);
  surroundings = look_around(terminal);
  EXPECT_FALSE(surroundings.no_color);
  ::unsetenv("NO_COLOR");
  ::close(terminal);
  ::close(control);
}

}  // namespace
}  // namespace sluice::launcher
