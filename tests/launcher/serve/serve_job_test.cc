// Requests that come and leave while the head works. The head's part is played by hand.
#include "launcher/serve/serve_job.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/scratch_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using stage::Next;
using Admission = ServeJob::Admission;

constexpr std::int32_t kEos = 2;

RequestRow row_of(const std::string& text, std::int32_t max_tokens, std::int32_t n = 1) {
  RequestRow row;
  for (const char byte : text) row.prompt.push_back(support::byte_id(byte));
  row.max_tokens = max_tokens;
  row.n = row.best_of = n;
  return row;
}

/// Writes down what it is told.
struct Listener final : Exchange {
  void on_begin() override { said += "begin "; }
  void on_token(const RowWork& work, std::size_t place, std::size_t part) override {
    said +=
        std::to_string(place) + "." + std::to_string(part) + "=" + work.answers[part].text() + " ";
  }
  void on_row_done(std::size_t place, std::unique_ptr<RowWork>) override {
    said += "done" + std::to_string(place) + " ";
  }
  void on_failed(const std::string& why) override { said += "failed:" + why + " "; }
  std::string said;
};

class ServeJobTest : public testing::Test {
 protected:
  std::shared_ptr<Listener> submit(std::vector<RequestRow> rows,
                                   Admission expected = Admission::taken,
                                   Urgency urgency = Urgency::live) {
    auto listener = std::make_shared<Listener>();
    EXPECT_EQ(job.submit(listener, std::move(rows), urgency), expected);
    return listener;
  }
  std::shared_ptr<Listener> submit_batch(std::vector<RequestRow> rows) {
    return submit(std::move(rows), Admission::taken, Urgency::batch);
  }
  std::uint64_t next() {
    EXPECT_EQ(job.next(request), Next::request);
    return request.id;
  }
  Next answer() {
    stage::Request none;
    return job.next(none);
  }
  bool token(std::uint64_t id, char byte) {
    return job.on_token(id, {support::byte_id(byte), -1.0F, {}});
  }
  std::vector<std::uint64_t> cancelled() {
    std::vector<std::uint64_t> ids;
    job.line().take_cancelled(ids);
    return ids;
  }

  stage::Request request;  // that next() got
  Tokenizer tokenizer = support::small_tokenizer();
  ServeJob job{tokenizer, kEos, {2, 100}};
};

TEST_F(ServeJobTest, RequestsComeInOrderAndAreAnsweredApart) {
  EXPECT_EQ(answer(), Next::none_now);
  job.line().take_news();
  const auto first = submit({row_of("ab", 2), row_of("c", 1)});
  EXPECT_TRUE(job.line().take_news());
  const auto second = submit({row_of("d", 3)});
  EXPECT_EQ(job.load().waiting, 2U);
  const std::uint64_t a = next();
  EXPECT_EQ(job.load().waiting, 1U);
  const std::uint64_t b = next();
  const std::uint64_t c = next();
  EXPECT_EQ(answer(), Next::none_now);
  EXPECT_EQ(job.load().running, 2U);
  EXPECT_FALSE(token(a, 'x'));
  EXPECT_TRUE(token(b, 'y'));
  EXPECT_FALSE(token(c, 'z'));
  EXPECT_TRUE(token(a, 'w'));
  EXPECT_TRUE(job.on_token(c, {kEos, 0.0F, {}}));
  EXPECT_EQ(first->said, "begin 0.0=x 1.0=y done1 0.0=xw done0 ");
  EXPECT_EQ(second->said, "begin 0.0=z 0.0=z done0 ");
  EXPECT_EQ(job.load().running, 0U);
}

TEST_F(ServeJobTest, AClientThatLeavesIsCancelledWhereverItStands) {
  const auto running = submit({row_of("a", 5, 3)});
  const std::uint64_t first = next();
  const std::uint64_t second = next();  // the third answer has not begun
  const auto waiting = submit({row_of("b", 5)});
  job.drop(*waiting);
  EXPECT_EQ(job.load().waiting, 0U);
  job.drop(*running);
  EXPECT_EQ(cancelled(), (std::vector<std::uint64_t>{first, second}));
  EXPECT_EQ(answer(), Next::none_now);
  // A token that comes before the head has heard of it ends the request.
  EXPECT_TRUE(token(first, 'x'));
  job.on_cancelled(second);
  EXPECT_EQ(running->said, "begin ");
  EXPECT_EQ(waiting->said, "");
  job.drop(*running);  // once is enough
  EXPECT_TRUE(cancelled().empty());
  EXPECT_EQ(job.load().running, 0U);
  job.drain();
  EXPECT_EQ(answer(), Next::no_more);
}

TEST_F(ServeJobTest, AFullQueueTakesNoMore) {
  submit({row_of("a", 1)});
  submit({row_of(std::string(98, 'b'), 1)});
  submit({row_of("c", 1)}, Admission::full);  // three requests
  next();
  submit({row_of("abc", 1)}, Admission::full);  // 101 tokens
  submit({row_of("ab", 1)});
  next();
  next();
  submit({row_of(std::string(500, 'x'), 1)});  // alone it may be as long as it is
}

TEST_F(ServeJobTest, DrainingEndsWithWhatWasTaken) {
  const auto taken = submit({row_of("a", 1)});
  job.drain();
  submit({row_of("b", 1)}, Admission::draining);
  const std::uint64_t id = next();
  EXPECT_EQ(answer(), Next::no_more);
  EXPECT_TRUE(token(id, 'x'));
  EXPECT_EQ(taken->said, "begin 0.0=x done0 ");
}

TEST_F(ServeJobTest, OneFailureEndsTheWholeRequestAlone) {
  const auto bad = submit({row_of("a", 5), row_of("b", 5)});
  const auto good = submit({row_of("c", 1)});
  const std::uint64_t first = next();
  const std::uint64_t second = next();
  const std::uint64_t other = next();
  job.on_failed(first, "why");
  EXPECT_EQ(cancelled(), (std::vector<std::uint64_t>{first, second}));
  job.on_cancelled(second);
  EXPECT_TRUE(token(other, 'x'));
  EXPECT_EQ(bad->said, "begin failed:why ");
  EXPECT_EQ(good->said, "begin 0.0=x done0 ");
}

TEST_F(ServeJobTest, AllFailTogether) {
  const auto running = submit({row_of("a", 5)});
  const std::uint64_t id = next();
  const auto waiting = submit({row_of("b", 5)});
  job.fail_all("the end");
  EXPECT_EQ(running->said, "begin failed:the end ");
  EXPECT_EQ(waiting->said, "failed:the end ");
  EXPECT_EQ(cancelled(), std::vector<std::uint64_t>{id});
  job.on_cancelled(id);
  EXPECT_EQ(job.load().running + job.load().waiting, 0U);
}

TEST_F(ServeJobTest, APromptAloneIsDoneWithoutTokens) {
  RequestRow row = row_of("ab", 0);
  row.echo = true;
  row.sampling.logprobs = 0;
  const auto scored = submit({std::move(row)});
  const std::uint64_t id = next();
  job.on_prompt_token(id, 1, {support::byte_id('b'), -2.0F, {}});
  job.on_prompt_done(id);
  EXPECT_EQ(scored->said, "begin 0.0= done0 ");
}

TEST_F(ServeJobTest, BatchesTakeThePlacesButOneThatLiveRequestsLeave) {
  job.set_places(4, 100);
  const auto batch = submit_batch({row_of("a", 5), row_of("b", 5), row_of("c", 5), row_of("d", 5)});
  const std::uint64_t a = next();
  const std::uint64_t b = next();
  const std::uint64_t c = next();
  EXPECT_EQ(answer(), Next::none_now);  // the fourth place is for whom comes next
  const auto live = submit({row_of("x", 5)});
  EXPECT_EQ(cancelled(), std::vector<std::uint64_t>{c});  // the youngest goes
  const std::uint64_t x = next();
  EXPECT_EQ(request.prompt.front(), support::byte_id('x'));
  EXPECT_EQ(answer(), Next::none_now);
  job.on_cancelled(c);
  EXPECT_EQ(answer(), Next::none_now);
  EXPECT_TRUE(job.on_token(x, {kEos, 0.0F, {}}));
  EXPECT_EQ(next(), c);  // before the row that never began
  for (const std::uint64_t id : {a, b, c}) EXPECT_TRUE(job.on_token(id, {kEos, 0.0F, {}}));
  EXPECT_TRUE(job.on_token(next(), {kEos, 0.0F, {}}));
  EXPECT_EQ(live->said, "begin 0.0= done0 ");
  EXPECT_TRUE(batch->said.ends_with("3.0= done3 "));
  EXPECT_EQ(job.load().batch, 0U);
}

TEST_F(ServeJobTest, ABatchStandsBehindAllLiveRequestsThatWait) {
  job.set_places(3, 100);
  submit_batch({row_of("a", 5), row_of("b", 5)});
  const auto first = submit({row_of("x", 5)});
  const auto second = submit({row_of("y", 5)});
  const std::uint64_t x = next();
  const std::uint64_t y = next();
  EXPECT_EQ(answer(), Next::none_now);
  EXPECT_TRUE(job.on_token(x, {kEos, 0.0F, {}}));
  next();
  EXPECT_EQ(request.prompt.front(), support::byte_id('a'));
  EXPECT_EQ(answer(), Next::none_now);
  EXPECT_TRUE(job.on_token(y, {kEos, 0.0F, {}}));
  next();
  EXPECT_EQ(request.prompt.front(), support::byte_id('b'));
}

TEST_F(ServeJobTest, WhatSteppedBackGoesOnBehindItsTokens) {
  job.set_places(2, 100);
  const auto batch = submit_batch({row_of("a", 4)});
  const std::uint64_t a = next();
  const std::uint64_t seed = request.sampling.seed;
  EXPECT_FALSE(token(a, 'p'));
  EXPECT_FALSE(token(a, 'q'));
  submit({row_of("x", 5)});
  const std::uint64_t x = next();
  EXPECT_EQ(cancelled(), std::vector<std::uint64_t>{a});
  job.on_cancelled(a);
  EXPECT_TRUE(job.on_token(x, {kEos, 0.0F, {}}));
  EXPECT_EQ(next(), a);
  EXPECT_EQ(request.prompt, (std::vector<std::int32_t>{support::byte_id('a'), support::byte_id('p'),
                                                       support::byte_id('q')}));
  EXPECT_EQ(request.max_tokens, 2);
  EXPECT_EQ(request.sampling.answer_begin, 1);
  EXPECT_EQ(request.sampling.seed, seed);
  EXPECT_FALSE(token(a, 'r'));
  EXPECT_TRUE(token(a, 's'));
  EXPECT_TRUE(batch->said.ends_with("0.0=pqrs done0 "));
}

TEST_F(ServeJobTest, ScoresThatWereCutOffBeginAnew) {
  job.set_places(2, 100);
  RequestRow row = row_of("abc", 0);
  row.echo = true;
  row.sampling.logprobs = 0;
  const auto batch = submit_batch({std::move(row)});
  const std::uint64_t id = next();
  job.on_prompt_token(id, 1, {support::byte_id('b'), -2.0F, {}});
  submit({row_of("x", 5)});
  EXPECT_TRUE(job.on_token(next(), {kEos, 0.0F, {}}));
  job.on_cancelled(id);
  EXPECT_EQ(next(), id);
  EXPECT_EQ(request.scores_from, 1);
  job.on_prompt_token(id, 1, {support::byte_id('b'), -2.0F, {}});
  job.on_prompt_token(id, 2, {support::byte_id('c'), -3.0F, {}});
  job.on_prompt_done(id);
  EXPECT_EQ(batch->said, "begin 0.0= done0 ");
}

TEST_F(ServeJobTest, ABatchThatIsDroppedWhileItStepsBackIsGone) {
  job.set_places(3, 100);
  const auto batch = submit_batch({row_of("a", 5), row_of("b", 5)});
  const std::uint64_t a = next();
  const std::uint64_t b = next();
  submit({row_of("x", 5)});
  const std::uint64_t x = next();
  EXPECT_EQ(cancelled(), std::vector<std::uint64_t>{b});
  job.on_cancelled(b);  // it waits for a place
  job.drop(*batch);
  EXPECT_EQ(job.load().batch, 0U);
  job.on_cancelled(a);
  EXPECT_TRUE(job.on_token(x, {kEos, 0.0F, {}}));
  EXPECT_EQ(answer(), Next::none_now);
  job.drain();
  EXPECT_EQ(answer(), Next::no_more);
  EXPECT_EQ(batch->said, "begin ");
}

TEST_F(ServeJobTest, DrainingDropsBatches) {
  const auto batch = submit_batch({row_of("a", 5)});
  const std::uint64_t a = next();
  job.drain();
  EXPECT_EQ(cancelled(), std::vector<std::uint64_t>{a});
  EXPECT_EQ(answer(), Next::no_more);
  job.on_cancelled(a);
  EXPECT_EQ(batch->said, "begin ");
}

TEST_F(ServeJobTest, ABatchGoesOnBehindTheTokensOfTheJournal) {
  const support::ScratchFolder scratch;
  const JournalOptions options = {scratch.path() / "journal", {{"model", "m"}}, 300};
  const auto row = [] {
    RequestRow named = row_of("a", 3);
    named.custom_id = "batch/row";
    return named;
  };
  {
    Journal journal(options, Existing::resume);
    journal.begin([] {});
    job.set_journal(journal);
    submit_batch({row()});
    const std::uint64_t id = next();
    EXPECT_FALSE(token(id, 'p'));
    EXPECT_FALSE(token(id, 'q'));
    job.drain();  // the batch is left for the next run
    job.on_cancelled(id);
    journal.flush();
  }
  Journal journal(options, Existing::resume);
  EXPECT_EQ(journal.unused_tokens(), 2);
  journal.begin([] {});
  ServeJob again{tokenizer, kEos, {2, 100}};
  again.set_journal(journal);
  const auto listener = std::make_shared<Listener>();
  std::vector<RequestRow> rows;
  rows.push_back(row());
  EXPECT_EQ(again.submit(listener, std::move(rows), Urgency::batch), Admission::taken);
  EXPECT_EQ(again.next(request), Next::request);
  EXPECT_EQ(request.prompt.size(), 3U);
  EXPECT_EQ(request.max_tokens, 1);
  EXPECT_TRUE(again.on_token(request.id, {support::byte_id('r'), 0.0F, {}}));
  EXPECT_EQ(listener->said, "begin 0.0=pqr done0 ");
}

TEST_F(ServeJobTest, ALongRowOfABatchCountsAsSeveral) {
  job.set_places(4, 10);
  submit_batch({row_of("a", 15), row_of("b", 15), row_of("c", 5)});
  next();
  EXPECT_EQ(answer(), Next::none_now);  // 2 + 2 > 3
}

}  // namespace
}  // namespace sluice::launcher
