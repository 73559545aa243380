// Rows are read as they are needed: from pipes that the tests write to, without any clock.
#include "launcher/jobs/row_feed.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <istream>
#include <iterator>
#include <random>
#include <sstream>
#include <streambuf>

#include "kernels/device/error.h"
#include "launcher/jobs/input_file.h"
#include "launcher/jobs/request_reader.h"
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

  static constexpr int kThreads = 3;

  void start(bool patient) {
    feed_ = std::make_unique<RowFeed>(*in_, "pipe", parser_, RowSorter({}, {}), patient);
    feed_->start(line_, kThreads);
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

TEST_F(RowFeedTest, TheJobMayEndWhileRowsWait) {
  start(false);
  std::string rows;
  for (int i = 0; i < 3000; ++i) rows += "{\"prompt\": \"a\"}\n";
  write(rows);
  EXPECT_EQ(next(), "row-1");
}

TEST_F(RowFeedTest, TheJobMayEndBeforeItHasBegun) { start(false); }

TEST(ParsingThreads, AreFewAndOneAtLeast) {
  EXPECT_EQ(parsing_threads(1), 1);
  EXPECT_EQ(parsing_threads(2), 1);
  EXPECT_EQ(parsing_threads(6), 3);
  EXPECT_EQ(parsing_threads(64), 4);
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

TEST_F(RowFeedTest, AnInputInNoKnownFormIsRefused) {
  std::istringstream wide(
      std::string("\xFF\xFE"
                  "a\0",
                  4));
  RowFeed feed(wide, "pipe", parser_, RowSorter({}, {}), true);
  feed.start(line_, kThreads);
  JobRow row;
  EXPECT_THROW(feed.next(row), InputError);
}

/// Some text, and then an error of the disk.
class BrokenDisk : public std::streambuf {
 public:
  explicit BrokenDisk(std::string text) : text_(std::move(text)) {
    setg(text_.data(), text_.data(), text_.data() + text_.size());
  }

 protected:
  int_type underflow() override { throw std::ios_base::failure("input/output error"); }

 private:
  std::string text_;
};

TEST_F(RowFeedTest, WhatReadingThrowsComesAfterTheRowsBeforeIt) {
  // The first row is the last to be parsed.
  BrokenDisk disk("{\"prompt\": \"" + std::string(100000, 'a') +
                  "\"}\n{\"prompt\": \"b\"}\n{\"prompt\": \"c");
  std::istream in(&disk);
  RequestParser parser(tokenizer_, {}, {tokenizer_.table_size(), 1 << 20});
  RowFeed feed(in, "pipe", parser, RowSorter({}, {}), true);
  feed.start(line_, kThreads);
  JobRow row;
  for (const char* id : {"row-1", "row-2"}) {
    ASSERT_EQ(feed.next(row), stage::Next::request);
    EXPECT_EQ(std::get<RequestRow>(row.row).custom_id, id);
  }
  EXPECT_THROW(feed.next(row), IoError);
  EXPECT_EQ(feed.next(row), stage::Next::no_more);
}

/// All that a row or a failure says.
std::string shown(const ParsedRow& parsed) {
  std::ostringstream text;
  if (const auto* row = std::get_if<RequestRow>(&parsed)) {
    text << row->line << ' ' << row->custom_id << ' ' << static_cast<int>(row->form) << ':';
    for (const std::int32_t id : row->prompt) text << ' ' << id;
  } else {
    const auto& failure = std::get<RowFailure>(parsed);
    text << failure.line << ' ' << failure.custom_id << ' ' << static_cast<int>(failure.form)
         << ": " << failure.message;
  }
  return text.str();
}

/// Rows of all lengths and forms, wrong ones among them; a line that is no JSON has the form of the
/// row before it.
std::string mixed_rows(int count) {
  std::mt19937 random(7);
  std::ostringstream rows;
  for (int i = 0; i < count; ++i) {
    const std::string prompt(1 + random() % (random() % 8 == 0 ? 20000 : 40), 'a');
    switch (random() % 6) {
      case 0:
        rows << "nonsense\n";
        break;
      case 1:
        rows << R"({"custom_id": "batch-)" << i << R"(", "url": "/v1/completions", "body": )"
             << R"({"prompt": ")" << prompt << R"(", "mine": 1}})" << '\n';
        break;
      case 2:
        rows << R"({"custom_id": "id-)" << random() % 8 << R"(", "prompt": ")" << prompt << "\"}\n";
        break;
      case 3:
        rows << R"({"prompt": ")" << prompt << R"(", "promt_)" << random() % 4 << "\": 1}\n";
        break;
      default:
        rows << R"({"prompt": ")" << prompt << "\"}\n";
    }
  }
  return rows.str();
}

class RowOrder : public testing::TestWithParam<int> {};

TEST_P(RowOrder, IsThatOfTheInputWithAnyNumberOfThreads) {
  const Tokenizer tokenizer = support::small_tokenizer();
  const ModelLimits limits{tokenizer.table_size(), 10000};
  const std::string input = mixed_rows(3000);
  std::istringstream once(input);
  InputLines lines(once, "in.jsonl");
  RequestParser parser(tokenizer, {}, limits);
  RowSorter sorter({}, {});
  std::vector<std::string> wanted;
  for (InputLine line; lines.next(line);) {
    if (auto row = sorter.sort(parse(line, parser))) wanted.push_back(shown(row->row));
  }
  ASSERT_EQ(wanted.size(), 3000U);

  std::istringstream again(input);
  RequestParser other(tokenizer, {}, limits);
  stage::HeadLine line;
  RowFeed feed(again, "in.jsonl", other, RowSorter({}, {}), true);
  feed.start(line, GetParam());
  JobRow row;
  for (const std::string& one : wanted) {
    ASSERT_EQ(feed.next(row), stage::Next::request);
    ASSERT_EQ(shown(row.row), one);
  }
  EXPECT_EQ(feed.next(row), stage::Next::no_more);
  EXPECT_EQ(feed.failed(), sorter.failed());
  std::vector<std::string> warnings = parser.take_warnings();
  std::ranges::move(sorter.take_warnings(), std::back_inserter(warnings));
  EXPECT_EQ(feed.take_warnings(), warnings);
}

INSTANTIATE_TEST_SUITE_P(Threads, RowOrder, testing::Values(1, 2, 4));

// The output has the answer of line 1, whose made-up name line 2 has as well: line 2 may be looked
// at before line 1 has its turn, and is a row to answer all the same.
TEST(RowFeedResume, ARowIsNotTakenForAnEarlierOneOfItsName) {
  const Tokenizer tokenizer = support::small_tokenizer();
  RequestParser parser(tokenizer, {}, {tokenizer.table_size(), 1 << 20});
  std::istringstream in("{\"prompt\": \"" + std::string(100000, 'a') +
                        "\"}\n{\"custom_id\": \"row-1\", \"prompt\": \"b\"}\n");
  FinishedRows finished;
  finished.ids().add_answered(key_of_id("row-1"));
  stage::HeadLine line;
  RowFeed feed(in, "pipe", parser, RowSorter(std::move(finished), {}), true);
  feed.start(line, 2);
  JobRow row;
  ASSERT_EQ(feed.next(row), stage::Next::request);
  EXPECT_EQ(std::get<RequestRow>(row.row).prompt, tokenizer.encode("b"));
  EXPECT_EQ(feed.next(row), stage::Next::no_more);
  EXPECT_EQ(feed.skipped(), 1);
}

}  // namespace
}  // namespace sluice::launcher
