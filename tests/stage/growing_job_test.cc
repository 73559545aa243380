// Jobs that grow while they run: the head sleeps until there is something, drops what is cancelled,
// and never ends with a request that waits.
#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <random>
#include <thread>

#include "kernels/device/error.h"
#include "stage/head.h"
#include "tests/support/growing_job.h"
#include "tests/support/head_answers.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

using support::answer;
using support::GrowingJob;
using support::request_of;

Batching batching_of(std::int32_t size, std::int32_t micro_batches, std::int32_t tokens) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = tokens;
  batching.max_sequence_tokens = 64;
  return batching;
}

Request named(std::uint64_t id, std::int32_t prompt, std::int32_t max_tokens) {
  Request request = request_of(prompt, max_tokens);
  request.id = id;
  return request;
}

std::vector<std::int32_t> tokens_from(std::int32_t first, std::int32_t count) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) tokens.push_back(100 + first + i);
  return tokens;
}

TEST(GrowingAdmission, AsksAgainAfterThereWasNone) {
  GrowingJob job;
  Admission admission(job, batching_of(2, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  EXPECT_FALSE(admission.make_pass(0, pass));
  EXPECT_FALSE(admission.is_done());
  job.add(named(7, 3, 2));
  admission.admit(0);
  ASSERT_TRUE(admission.make_pass(0, pass));
  admission.take(pass, answer(pass));
  job.add(named(8, 3, 1));
  admission.admit(0);
  ASSERT_TRUE(admission.make_pass(0, pass));
  EXPECT_EQ(pass.rows.size(), 2U);
  admission.take(pass, answer(pass));
  EXPECT_FALSE(admission.is_done());
  job.close();
  admission.admit(0);
  EXPECT_TRUE(admission.is_done());
  EXPECT_EQ(job.tokens_of(7), tokens_from(3, 2));
  EXPECT_EQ(job.tokens_of(8), tokens_from(3, 1));
}

PageLedger ledger_of(std::int32_t pages, std::int32_t slots) {
  return PageLedger({CacheRoom{{100, 0, 0}, 4, {pages, 0, 0}}}, slots);
}

TEST(CancelTest, ARequestThatWaitsForPagesIsForgotten) {
  support::ListJob job({request_of(20, 5), request_of(28, 5), request_of(2, 1)});
  Admission admission(job, batching_of(1, 3, 16), 2, ledger_of(10, 3));
  admission.admit_all();
  ASSERT_TRUE(admission.has_waiting());
  admission.cancel(1);
  EXPECT_TRUE(job.answers[1].cancelled);
  EXPECT_FALSE(admission.has_waiting());
  admission.admit_all();
  EXPECT_EQ(admission.active_rows(), 2) << "the third has the pages that it left";
  EXPECT_EQ(admission.cancelled(), 1U);
}

// In the prompt and in the answer, with passes under way: the place and the pages are another's as
// soon as these are back, and what they bring is nobody's.
TEST(CancelTest, PlaceAndPagesAreFreeWhenThePassesUnderWayAreBack) {
  for (const bool decoding : {false, true}) {
    // 6 pages: one request at a time.
    support::ListJob job({request_of(20, 4), request_of(20, 2)});
    Admission admission(job, batching_of(2, 1, 8), 1, ledger_of(6, 2));
    admission.admit_all();
    ASSERT_TRUE(admission.has_waiting());
    Pass first;
    Pass second;
    ASSERT_TRUE(admission.make_pass(0, first));
    ASSERT_TRUE(admission.make_pass(0, second));
    if (decoding) {
      Pass third;
      ASSERT_TRUE(admission.make_pass(0, third));  // samples
      admission.take(first, answer(first));
      admission.take(second, answer(second));
      admission.take(third, answer(third));
      ASSERT_EQ(job.answers[0].tokens.size(), 1U);
      ASSERT_TRUE(admission.make_pass(0, second));
      admission.cancel(0);
    } else {
      admission.cancel(0);
      admission.take(first, answer(first));
      admission.admit(0);
      Pass none;
      EXPECT_FALSE(admission.make_pass(0, none)) << "a chunk is still under way";
    }
    EXPECT_TRUE(job.answers[0].cancelled);
    admission.cancel(0);  // once more: nothing
    admission.take(second, answer(second));
    EXPECT_EQ(job.answers[0].tokens.size(), decoding ? 1U : 0U);
    EXPECT_EQ(admission.active_rows(), 0);
    admission.admit(0);
    Pass next;
    ASSERT_TRUE(admission.make_pass(0, next));
    EXPECT_EQ(next.freed.size(), 1U) << "the stages learn it from the next pass";
    EXPECT_EQ(next.rows[0].position, 0);
    EXPECT_EQ(admission.cancelled(), 1U);
    EXPECT_EQ(admission.failed(), 0U);
  }
}

TEST(CancelTest, NothingHappensToOneThatIsNotHere) {
  support::ListJob job({request_of(2, 1)});
  Admission admission(job, batching_of(1, 1, 8), 1);
  admission.cancel(0);
  admission.cancel(99);
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  admission.take(pass, answer(pass));
  admission.cancel(0);
  EXPECT_EQ(job.answers[0].tokens.size(), 1U);
  EXPECT_EQ(admission.cancelled(), 0U);
}

/// A head on a thread of its own; another thread is its only stage.
class GrowingHeadTest : public testing::Test {
 protected:
  void start(Job& job, const Batching& batching, const std::vector<CacheRoom>& rooms = {}) {
    head_ = std::thread([this, &job, batching, rooms] {
      try {
        report_ = run_head(job, batching, *worlds_[0], rooms);
      } catch (...) {
        cause_ = std::current_exception();
        try {
          worlds_[0]->fail(ExitStatus::failure, "the head failed");
        } catch (const Error&) {
        }
      }
    });
    stage_ = std::thread([this, batching] { work(batching); });
  }
  void join() {
    head_.join();
    stage_.join();
  }
  void work(const Batching& batching) {
    std::vector<std::byte> header(max_pass_bytes(batching, 1));
    std::vector<std::byte> message(max_results_bytes(batching));
    try {
      for (;;) {
        const std::size_t bytes =
            worlds_[0]->wait(worlds_[0]->receive(comm::Route::passes, 0, header));
        Pass pass;
        decode(std::span<const std::byte>(header).first(bytes), pass);
        if (pass.end) return;
        worlds_[0]->wait(worlds_[0]->send(comm::Route::results, 0, encode(answer(pass), message)));
      }
    } catch (const CommError&) {  // the head failed
    }
  }

  std::vector<std::unique_ptr<comm::World>> worlds_ = comm::make_local_worlds(1);
  std::thread head_;
  std::thread stage_;
  RunReport report_;
  std::exception_ptr cause_;
};

TEST_F(GrowingHeadTest, ARequestWakesTheHeadThatSleeps) {
  GrowingJob job;
  start(job, batching_of(2, 1, 8));
  for (std::uint64_t id = 0; id < 5; ++id) {
    job.wait_for_none(1);
    job.add(named(id, 3, 4));
    while (job.tokens_of(id).size() < 4) std::this_thread::yield();
  }
  job.close();
  join();
  ASSERT_EQ(cause_, nullptr);
  EXPECT_EQ(report_.requests, 5U);
  for (std::uint64_t id = 0; id < 5; ++id) EXPECT_EQ(job.tokens_of(id), tokens_from(3, 4));
}

// While it waits the head neither polls nor asks: nothing happens until somebody rings.
TEST_F(GrowingHeadTest, TheHeadSleepsUntilItIsRung) {
  GrowingJob job;
  start(job, batching_of(2, 1, 8));
  job.wait_for_none(1);
  job.add(named(1, 3, 1));
  while (job.tokens_of(1).empty()) std::this_thread::yield();
  const int rings = 20;
  for (int i = 0; i < rings; ++i) job.line().ring();
  job.close();
  join();
  // Each ring and each landing asks a few times at most; a head that polls asks without end.
  EXPECT_LE(job.nones(), 4 * (rings + 6));
  EXPECT_EQ(report_.requests, 1U);
}

TEST_F(GrowingHeadTest, ACancelledRequestEndsWhereverItStands) {
  GrowingJob job;
  start(job, batching_of(1, 1, 8));
  std::mt19937 random(3);
  std::size_t cancelled = 0;
  for (std::uint64_t id = 0; id < 200; ++id) {
    job.add(named(id, 20, 40));
    const std::size_t wanted = random() % 6;
    while (job.tokens_of(id).size() < wanted) std::this_thread::yield();
    if (job.tokens_of(id).size() == 40) continue;
    job.add(named(1000 + id, 2, 1));  // waits for the place
    job.line().cancel(id);
    while (job.tokens_of(1000 + id).empty()) std::this_thread::yield();
    ++cancelled;
  }
  job.close();
  join();
  ASSERT_EQ(cause_, nullptr);
  EXPECT_EQ(report_.cancelled, job.cancelled().size());
  EXPECT_LE(job.cancelled().size(), cancelled);
  EXPECT_GT(job.cancelled().size(), 0U);
  for (std::uint64_t id = 0; id < 200; ++id) {
    const std::vector<std::int32_t> tokens = job.tokens_of(1000 + id);
    EXPECT_TRUE(tokens.empty() || tokens == tokens_from(2, 1));
  }
}

TEST_F(GrowingHeadTest, ARequestThatCanNeverStartIsAnErrorAndNotTheEnd) {
  support::ListJob job({request_of(4, 1), request_of(40, 5), request_of(2, 1)});
  start(job, batching_of(2, 1, 8), {CacheRoom{{100, 0, 0}, 4, {5, 0, 0}}});
  join();
  ASSERT_NE(cause_, nullptr);
  EXPECT_THROW(std::rethrow_exception(cause_), CapacityError);
  EXPECT_EQ(job.answers[0].tokens.size(), 1U);
}

TEST_F(GrowingHeadTest, AFailureElsewhereWakesTheHeadThatSleeps) {
  GrowingJob job;
  start(job, batching_of(1, 1, 8));
  job.wait_for_none(1);
  EXPECT_THROW(worlds_[0]->fail(ExitStatus::failure, "the disk is gone"), Error);
  join();
  ASSERT_NE(cause_, nullptr);
  EXPECT_THROW(std::rethrow_exception(cause_), CommError);
}

TEST_F(GrowingHeadTest, AHeadThatIsStoppedTakesBackItsPassesAndStartsNothing) {
  GrowingJob job;
  for (std::uint64_t id = 0; id < 8; ++id) job.add(named(id, 3, 40));
  start(job, batching_of(2, 2, 8));
  while (job.tokens_of(0).size() < 5) std::this_thread::yield();
  job.line().stop();
  join();
  ASSERT_EQ(cause_, nullptr);
  EXPECT_TRUE(report_.stopped);
  EXPECT_LE(report_.requests, 8U);
  std::size_t tokens = 0;
  for (std::uint64_t id = 0; id < 8; ++id) {
    const std::vector<std::int32_t> made = job.tokens_of(id);
    EXPECT_EQ(made, tokens_from(3, static_cast<std::int32_t>(made.size())));  // none is lost
    tokens += made.size();
  }
  EXPECT_EQ(tokens, report_.completion_tokens);
  EXPECT_LT(tokens, 8U * 40U);
}

TEST_F(GrowingHeadTest, AHeadThatSleepsIsStopped) {
  GrowingJob job;
  start(job, batching_of(1, 1, 8));
  job.wait_for_none(1);
  job.line().stop();
  join();
  ASSERT_EQ(cause_, nullptr);
  EXPECT_TRUE(report_.stopped);
}

TEST_F(GrowingHeadTest, AHeadThatIsStoppedBeforeItBeginsMakesNoPass) {
  GrowingJob job;
  job.add(named(1, 3, 4));
  job.line().stop();
  start(job, batching_of(1, 1, 8));
  join();
  ASSERT_EQ(cause_, nullptr);
  EXPECT_TRUE(report_.stopped);
  EXPECT_EQ(report_.requests, 0U);
  EXPECT_TRUE(job.tokens_of(1).empty());
}

TEST_F(GrowingHeadTest, AJobThatIsDoneWasNotStopped) {
  support::ListJob job({request_of(3, 1)});
  start(job, batching_of(2, 1, 8));
  join();
  job.line().stop();
  EXPECT_FALSE(report_.stopped);
}

}  // namespace
}  // namespace sluice::stage
