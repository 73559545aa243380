// Rows are read as they are needed: from pipes that the tests write to, without any clock.
#include "launcher/jobs/row_feed.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <istream>
#include <sstream>

#include "kernels/device/error.h"
#include "launcher/jobs/input_file.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

/// A pipe, and a feed over its other end.
class RowFeedTest : public testing::Test {
 protected:
  RowFeedTest() {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    writing_ = ends[1];
    file_ = std::make_unique<InputFile>("/proc/self/fd/" + std::to_string(ends[0]));
    ::close(ends[0]);
    in_ = std::make_unique<std::istream>(file_.get());
  }
  ~RowFeedTest() override {
    file_->stop();
    feed_.reset();
    close_pipe();
  }

  void start(bool patient) {
    feed_ = std::make_unique<RowFeed>(*in_, "pipe", parser_, RowSorter({}, {}), patient);
    feed_->start(line_);
  }
  void write(const std::string& text) {
    ASSERT_EQ(::write(writing_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close_pipe() {
    if (writing_ >= 0) ::close(std::exchange(writing_, -1));
  }
  /// The next row's custom_id, or "none" at the end; sleeps on the line where there is none now.
  std::string next() {
    for (;;) {
      const std::uint32_t rings = line_.bell().count();
      JobRow row;
      switch (feed_->next(row)) {
        case stage::Next::request:
          return std::get<RequestRow>(row.row).custom_id;
        case stage::Next::no_more:
          return "none";
        case stage::Next::none_now:
          line_.bell().wait(rings);
      }
    }
  }

  Tokenizer tokenizer_ = support::small_tokenizer();
  RequestParser parser_{tokenizer_, {}, {tokenizer_.table_size(), 64}};
  stage::HeadLine line_;
  int writing_ = -1;
  std::unique_ptr<InputFile> file_;
  std::unique_ptr<std::istream> in_;
  std::unique_ptr<RowFeed> feed_;
};

TEST_F(RowFeedTest, ARowIsThereBeforeTheNextIsWritten) {
  start(false);
  JobRow row;
  EXPECT_EQ(feed_->next(row), stage::Next::none_now);
  write("{\"prompt\": \"a\"}\n");
  EXPECT_EQ(next(), "row-1");
  EXPECT_EQ(feed_->next(row), stage::Next::none_now);
  write("{\"prompt\": \"b\"}\n{\"prompt\": \"c\"");
  EXPECT_EQ(next(), "row-2");
  write("}\n");
  EXPECT_EQ(next(), "row-3");
  close_pipe();
  EXPECT_EQ(next(), "none");
}

// More rows than it keeps: the writer is held up, and goes on as rows are taken.
TEST_F(RowFeedTest, ReadsNoFurtherAheadThanItIsAllowedTo) {
  start(false);
  ASSERT_EQ(::fcntl(writing_, F_SETFL, O_NONBLOCK), 0);
  const std::string row = "{\"prompt\": \"a\"}\n";
  const auto row_bytes = static_cast<std::int64_t>(row.size());
  std::string rows;
  for (int i = 0; i < 256; ++i) rows += row;
  std::int64_t written = 0;
  std::int64_t taken = 0;
  std::size_t offset = 0;
  // In all 64 times as much as a pipe holds. What is neither taken nor in the pipe is in the feed.
  while (written < (std::int64_t{64} << 16)) {
    const ssize_t count = ::write(writing_, rows.data() + offset, rows.size() - offset);
    if (count < 0) {
      ASSERT_EQ(errno, EAGAIN);
      EXPECT_NE(next(), "none");
      ++taken;
      continue;
    }
    written += count;
    offset = (offset + static_cast<std::size_t>(count)) % rows.size();
    const std::int64_t ahead = written / row_bytes - taken;
    // The feed's rows, its reader's buffer, and the pipe.
    ASSERT_LE(ahead, 1024 + 2 * (1 << 16) / row_bytes + 2)
        << "rows that were read and not wanted yet";
  }
}

TEST_F(RowFeedTest, TheJobMayEndWhileThePipeIsOpen) {
  start(false);
  write("{\"prompt\": \"a\"}\n");
  EXPECT_EQ(next(), "row-1");
}

TEST_F(RowFeedTest, APatientFeedWaitsForTheReader) {
  start(true);
  write("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n");
  close_pipe();
  JobRow row;
  EXPECT_EQ(feed_->next(row), stage::Next::request);
  EXPECT_EQ(feed_->next(row), stage::Next::request);
  EXPECT_EQ(feed_->next(row), stage::Next::no_more);
  EXPECT_EQ(feed_->next(row), stage::Next::no_more);
}

TEST_F(RowFeedTest, WhatReadingThrowsComesAfterTheRowsBeforeIt) {
  std::istringstream wide(
      std::string("\xFF\xFE"
                  "a\0",
                  4));
  RowFeed feed(wide, "pipe", parser_, RowSorter({}, {}), true);
  feed.start(line_);
  JobRow row;
  EXPECT_THROW(feed.next(row), InputError);
}

}  // namespace
}  // namespace sluice::launcher
