// Which passes the head has under way at a time. The tests are the stages: they take passes from
// the route that leads to rank 0, and answer as rank 1.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <thread>

#include "stage/head.h"
#include "tests/support/head_answers.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

using support::answer;
using support::request_of;

Batching batching_of(std::int32_t size, std::int32_t micro_batches, std::int32_t tokens) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = tokens;
  batching.max_sequence_tokens = 200;
  return batching;
}

/// A head on a thread of its own, over two stages that are this test.
class HeadLoopTest : public testing::Test {
 protected:
  void start(support::ListJob& job, const Batching& batching) {
    passes_.resize(max_pass_bytes(batching, 2));
    results_.resize(max_results_bytes(batching));
    thread_ = std::thread([this, &job, batching] { run_head(job, batching, *worlds_[0]); });
  }
  ~HeadLoopTest() override {
    if (thread_.joinable()) thread_.join();
  }

  /// Blocks until the head has made another pass.
  Pass take_pass() {
    const std::size_t bytes =
        worlds_[0]->wait(worlds_[0]->receive(comm::Route::passes, 0, passes_));
    Pass pass;
    decode(std::span<const std::byte>(passes_).first(bytes), pass);
    return pass;
  }
  void send_answer(const Pass& pass) {
    comm::World& last = *worlds_[1];
    last.wait(last.send(comm::Route::results, 0, encode(answer(pass), results_)));
  }
  /// Answers what comes, the oldest first, until the head ends the job.
  void answer_all(std::deque<Pass> under_way) {
    for (;;) {
      const comm::Transfer next = worlds_[0]->receive(comm::Route::passes, 0, passes_);
      std::size_t bytes = 0;
      while (!worlds_[0]->done(next, &bytes)) {
        if (under_way.empty()) {
          std::this_thread::yield();
        } else {
          send_answer(under_way.front());
          under_way.pop_front();
        }
      }
      decode(std::span<const std::byte>(passes_).first(bytes), under_way.emplace_back());
      if (under_way.back().end) break;
    }
    thread_.join();
  }

  std::vector<std::unique_ptr<comm::World>> worlds_ = comm::make_local_worlds(2);
  std::vector<std::byte> passes_;
  std::vector<std::byte> results_;
  std::thread thread_;
};

// Only a chunk that samples needs an answer. One prompt alone keeps two stages busy.
TEST_F(HeadLoopTest, ChunksOfAPromptAreUnderWayTogether) {
  support::ListJob job({request_of(40, 2)});
  start(job, batching_of(2, 3, 8));
  std::deque<Pass> under_way;
  for (std::int32_t chunk = 0; chunk < 3; ++chunk) {  // stages + 1, none of them answered
    const Pass pass = under_way.emplace_back(take_pass());
    ASSERT_EQ(pass.rows.size(), 1U);
    EXPECT_EQ(pass.rows[0].position, 8 * chunk);
    EXPECT_EQ(pass.rows[0].new_tokens, 8);
    EXPECT_FALSE(pass.rows[0].sample);
  }
  for (std::int32_t chunk = 3; chunk < 5; ++chunk) {
    send_answer(under_way.front());
    under_way.pop_front();
    const Pass pass = under_way.emplace_back(take_pass());
    EXPECT_EQ(pass.rows[0].position, 8 * chunk);
    EXPECT_EQ(pass.rows[0].sample, chunk == 4);
  }
  while (!under_way.empty()) {
    send_answer(under_way.front());
    under_way.pop_front();
  }
  const Pass decode = take_pass();  // only now is its token known
  EXPECT_EQ(decode.rows[0].position, 40);
  EXPECT_EQ(decode.tokens, (std::vector<std::int32_t>{140}));
  send_answer(decode);
  EXPECT_TRUE(take_pass().end);
  thread_.join();
  EXPECT_EQ(job.answers[0].tokens, (std::vector<std::int32_t>{140, 141}));
}

// While one micro-batch computes a long prompt and others decode, chunks go on beside its decode
// step; as many as keep the stages busy, for a decode step is nothing beside a chunk.
TEST_F(HeadLoopTest, ChunksFillTheBubblesOfDecodeSteps) {
  // Requests go to micro-batches in turn: 0 and 3 to the first.
  support::ListJob job(
      {request_of(1, 60), request_of(1, 60), request_of(1, 60), request_of(190, 1)});
  start(job, batching_of(2, 3, 16));
  std::deque<Pass> under_way;
  // First a pass of each micro-batch; that of the first has a chunk beside its decode step.
  for (std::int32_t m = 0; m < 3; ++m) {
    under_way.push_back(take_pass());
    EXPECT_EQ(under_way.back().micro_batch, m);
  }
  EXPECT_EQ(under_way[0].rows.size(), 2U);
  EXPECT_TRUE(under_way[0].rows[0].sample);
  for (std::int32_t chunk = 0; chunk < 2; ++chunk) {
    const Pass pass = under_way.emplace_back(take_pass());
    EXPECT_EQ(pass.micro_batch, 0);
    ASSERT_EQ(pass.rows.size(), 1U) << "decode steps stay together";
    EXPECT_EQ(pass.rows[0].new_tokens, 16);
    EXPECT_FALSE(pass.rows[0].sample);
  }
  std::int32_t samples_under_way[3] = {0, 0, 0};
  for (const Pass& pass : under_way) {
    for (const PassRow& row : pass.rows) samples_under_way[pass.micro_batch] += row.sample ? 1 : 0;
  }
  EXPECT_EQ(samples_under_way[0] + samples_under_way[1] + samples_under_way[2], 3);
  answer_all(std::move(under_way));
  EXPECT_EQ(job.answers[3].tokens, (std::vector<std::int32_t>{290}));
  for (std::uint64_t id = 0; id < 3; ++id) EXPECT_EQ(job.answers[id].tokens.size(), 60U);
}

/// A slot's passes as a stage sees them: a sequence begins at 0 and goes on where it was.
void expect_in_order(const Pass& pass, std::map<std::int32_t, std::int32_t>& cached) {
  for (const PassRow& row : pass.rows) {
    if (row.position == 0) cached[row.slot] = 0;
    ASSERT_EQ(row.position, cached[row.slot]) << "slot " << row.slot;
    cached[row.slot] += row.new_tokens;
  }
}

// Any mixture, any batching, answers as late as can be: every request gets exactly its tokens.
TEST(AdmissionPassesTest, NoTokenIsLostWithAnyNumberOfPassesUnderWay) {
  std::mt19937 random(11);
  const auto below = [&](std::uint32_t n) { return static_cast<std::int32_t>(random() % n); };
  for (int round = 0; round < 60; ++round) {
    std::vector<Request> requests;
    for (int i = below(30); i > 0; --i) requests.push_back(request_of(1 + below(40), below(6)));
    support::ListJob job(requests);
    const std::int32_t size = 1 + below(4);
    Admission admission(job, batching_of(size, 1 + below(4), size + below(12)), 2);
    admission.admit_all();
    std::deque<Pass> under_way;
    std::map<std::int32_t, std::int32_t> cached;
    for (bool working = true; working;) {
      working = false;
      const std::int32_t first = below(static_cast<std::uint32_t>(admission.micro_batches()));
      for (std::int32_t i = 0; i < admission.micro_batches(); ++i) {
        const std::int32_t m = (first + i) % admission.micro_batches();
        const std::int32_t ready = admission.ready_tokens(m);
        Pass pass;
        ASSERT_EQ(admission.make_pass(m, pass), ready > 0);
        ASSERT_EQ(pass.tokens.size(), static_cast<std::size_t>(ready));
        if (ready == 0) continue;
        expect_in_order(pass, cached);
        under_way.push_back(pass);
        working = true;
      }
      const std::int32_t landings = working ? below(3) : 1;
      for (std::int32_t i = 0; i < landings && !under_way.empty(); ++i) {
        const Pass pass = under_way.front();
        under_way.pop_front();
        admission.take(pass, answer(pass));
        admission.admit(pass.micro_batch);
        working = true;
      }
    }
    ASSERT_EQ(job.answers.size(), requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto& tokens = job.answers[i].tokens;
      ASSERT_EQ(tokens.size(), static_cast<std::size_t>(requests[i].max_tokens));
      for (std::size_t k = 0; k < tokens.size(); ++k) {
        EXPECT_EQ(tokens[k], static_cast<std::int32_t>(100 + requests[i].prompt.size() + k));
      }
    }
  }
}

// A row that failed has chunks under way: its place is taken when they are back, and what they
// bring is nobody's.
TEST(AdmissionPassesTest, AFailedRowsPlaceIsFreeWhenItsChunksAreBack) {
  Request scored = request_of(24, 1);
  scored.scores_from = 1;
  support::ListJob job({scored, request_of(4, 1)});
  Admission admission(job, batching_of(1, 1, 8), 1);
  admission.admit_all();
  Pass first, second;
  ASSERT_TRUE(admission.make_pass(0, first));
  ASSERT_TRUE(admission.make_pass(0, second));
  const auto scores_of = [](const Pass& pass, bool failed) {
    PassResults results;
    results.micro_batch = pass.micro_batch;
    results.number = pass.number;
    for (std::int32_t i = 0; i < pass.rows[0].new_tokens; ++i) {
      results.add(pass.rows[0].slot, pass.rows[0].position + i + 1,
                  {failed && i == 2 ? -1 : 5, 0.0F, {}});
    }
    return results;
  };
  admission.take(first, scores_of(first, true));
  EXPECT_EQ(job.answers[0].prompt_results.size(), 2U);
  EXPECT_FALSE(job.answers[0].failure.empty());
  admission.admit(0);
  Pass third;
  EXPECT_FALSE(admission.make_pass(0, third)) << "its place is not free, and it is not computed";
  admission.take(second, scores_of(second, false));
  EXPECT_EQ(job.answers[0].prompt_results.size(), 2U) << "of a row that failed";
  admission.admit(0);
  ASSERT_TRUE(admission.make_pass(0, third));
  EXPECT_EQ(third.tokens, request_of(4, 1).prompt);
  EXPECT_EQ(admission.failed(), 1U);
}

}  // namespace
}  // namespace sluice::stage
