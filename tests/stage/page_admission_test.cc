// Admission where the caches are too small for all slots: who starts when, who steps back, and that
// nobody waits for ever.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "stage/head.h"
#include "tests/support/head_answers.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

using support::answer;
using support::request_of;

constexpr std::int32_t kPageTokens = 4;

Batching batching_of(std::int32_t size, std::int32_t batches, std::int32_t micro_batches) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.num_gpu_batches = batches;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = 16;
  batching.max_sequence_tokens = 40;
  return batching;
}

PageLedger ledger_of(std::int32_t pages, std::int32_t slots) {
  return PageLedger({CacheRoom{{100, 0, 0}, kPageTokens, {pages, 0, 0}}}, slots);
}

/// What a stage does with the headers: it must never find too few pages.
class StagePages {
 public:
  explicit StagePages(std::int32_t pages) : free_(pages) {}
  void apply(const Pass& pass) {
    for (const std::int32_t slot : pass.freed) {
      free_ += owned_[slot];
      owned_[slot] = 0;
    }
    for (const PassRow& row : pass.rows) {
      std::int32_t& owned = owned_[row.slot];
      if (row.position == 0) {
        EXPECT_EQ(owned, 0) << "its last sequence was not said to have ended";
      }
      const std::int32_t needed = (row.position + row.new_tokens - 1) / kPageTokens + 1;
      free_ -= std::max(needed - owned, 0);
      owned = std::max(needed, owned);
      EXPECT_LE(row.position + row.new_tokens, row.total);
    }
    EXPECT_GE(free_, 0);
  }
  std::int32_t free() const { return free_; }

 private:
  std::int32_t free_;
  std::map<std::int32_t, std::int32_t> owned_;
};

TEST(PageAdmission, ARequestThatWaitsForPagesIsPassedByNone) {
  // 10 pages: the first request takes 6, the second (8) waits, and the third (1) behind it.
  support::ListJob job({request_of(20, 5), request_of(28, 5), request_of(2, 1)});
  Admission admission(job, batching_of(1, 1, 3), 2, ledger_of(10, 3));
  StagePages stage(10);
  admission.admit_all();
  EXPECT_EQ(admission.active_rows(), 1);
  Pass pass;
  EXPECT_FALSE(admission.make_pass(1, pass));
  std::int32_t passes = 0;
  while (job.answers[0].tokens.size() < 5) {
    ASSERT_EQ(admission.active_rows(), 1);
    ASSERT_TRUE(admission.make_pass(0, pass));
    EXPECT_TRUE(pass.freed.empty());
    stage.apply(pass);
    admission.take(pass, answer(pass));
    ASSERT_LT(++passes, 20);
  }
  admission.admit(0);
  EXPECT_EQ(admission.active_rows(), 2);
  ASSERT_TRUE(admission.make_pass(0, pass));
  EXPECT_EQ(pass.freed, std::vector<std::int32_t>{0});
  EXPECT_EQ(pass.rows[0].total, 32);
  stage.apply(pass);
  EXPECT_EQ(stage.free(), 6) << "16 of its tokens lie in four pages";
  ASSERT_TRUE(admission.make_pass(1, pass)) << "another micro-batch had a place for the third";
  EXPECT_TRUE(pass.freed.empty());
}

TEST(PageAdmission, TheLastTokenOfAnAnswerNeedsNoPlaceInTheCache) {
  support::ListJob job({request_of(4, 5), request_of(4, 1), request_of(4, 0)});
  Admission admission(job, batching_of(3, 1, 1), 1, ledger_of(4, 3));
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 3U);
  EXPECT_EQ(pass.rows[0].total, 8);
  EXPECT_EQ(pass.rows[1].total, 4);
  EXPECT_EQ(pass.rows[2].total, 4);
}

// Two rows of 4 + 13 tokens, 5 pages each at the end, in 7 pages.
TEST(PageAdmission, TheYoungestStepsBackAndGoesOnBehindItsTokens) {
  support::ListJob job({request_of(4, 13), request_of(4, 13)});
  Admission admission(job, batching_of(2, 1, 1), 1, ledger_of(7, 2));
  StagePages stage(7);
  admission.admit_all();
  ASSERT_EQ(admission.active_rows(), 2) << "each has its prompt's page and one more";
  Pass pass;
  std::vector<std::int32_t> again;  // tokens of prefills behind the first
  std::int32_t passes = 0;
  while (admission.make_pass(0, pass)) {
    stage.apply(pass);
    for (const PassRow& row : pass.rows) {
      if (row.position == 0 && passes > 0) again.push_back(row.new_tokens);
    }
    admission.take(pass, answer(pass));
    admission.admit(0);
    ASSERT_LT(++passes, 50);
  }
  // At 12 tokens each has three pages; one more is there, for the older.
  EXPECT_EQ(again, (std::vector<std::int32_t>{13}));
  EXPECT_EQ(admission.stepped_back(), 1U);
  EXPECT_EQ(admission.recomputed_tokens(), 12U);
  EXPECT_EQ(admission.requests(), 2U);
  EXPECT_EQ(admission.prompt_tokens(), 8U);
  EXPECT_TRUE(admission.is_done());
  for (std::uint64_t id = 0; id < 2; ++id) {
    ASSERT_EQ(job.answers[id].tokens.size(), 13U);
    for (std::int32_t k = 0; k < 13; ++k) {
      EXPECT_EQ(job.answers[id].tokens[static_cast<std::size_t>(k)], 104 + k);
    }
  }
}

TEST(PageAdmission, ARowThatSteppedBackIsCancelledLikeOneThatWaits) {
  support::ListJob job({request_of(4, 13), request_of(4, 13)});
  Admission admission(job, batching_of(2, 1, 1), 1, ledger_of(7, 2));
  admission.admit_all();
  Pass pass;
  while (admission.stepped_back() == 0) {
    ASSERT_TRUE(admission.make_pass(0, pass));
    admission.take(pass, answer(pass));
  }
  ASSERT_TRUE(admission.has_waiting());
  admission.cancel(1);
  EXPECT_TRUE(job.answers[1].cancelled);
  EXPECT_FALSE(admission.has_waiting());
  while (admission.make_pass(0, pass)) admission.take(pass, answer(pass));
  EXPECT_TRUE(admission.is_done() || (admission.admit_all(), admission.is_done()));
  EXPECT_EQ(job.answers[0].tokens.size(), 13U);
}

// The prompt is scored once, though its row begins again in the middle of it.
TEST(PageAdmission, AScoredPromptThatStepsBackIsToldOnce) {
  Request scored = request_of(17, 8);
  scored.scores_from = 1;
  support::ListJob job({request_of(2, 20), scored});
  Batching batching = batching_of(2, 1, 1);
  batching.max_tokens_per_gpu_batch = 2;  // a token of the prompt beside one of the other row
  Admission admission(job, batching, 1, ledger_of(9, 2));
  admission.admit_all();
  Pass pass;
  std::int32_t passes = 0;
  while (admission.make_pass(0, pass)) {
    PassResults results;
    results.number = pass.number;
    results.micro_batch = pass.micro_batch;
    for (const PassRow& row : pass.rows) {
      for (std::int32_t i = row.first_scored(); i < row.end_scored(); ++i) {
        results.add(row.slot, i, {7, 0.0F, {}});
      }
      if (row.sample) results.add(row.slot, -1, {100 + row.position + row.new_tokens, 0.0F, {}});
    }
    admission.take(pass, results);
    admission.admit(0);
    ASSERT_LT(++passes, 80);
  }
  EXPECT_EQ(admission.stepped_back(), 1U);
  EXPECT_LT(admission.recomputed_tokens(), 17U);
  EXPECT_EQ(job.answers[1].failure, "");
  EXPECT_EQ(job.answers[1].prompt_results.size(), 16U);
  EXPECT_EQ(job.answers[1].tokens.size(), 8U);
  EXPECT_EQ(job.answers[0].tokens.size(), 20U);
}

// Any mixture, several passes under way, pages for little more than the longest: everything ends,
// and no stage ever misses a page.
TEST(PageAdmission, EveryRequestIsServedAndNoStageRunsOut) {
  std::mt19937 random(11);
  std::uint64_t stepped_back = 0;
  const auto below = [&random](std::int32_t n) {
    return static_cast<std::int32_t>(random() % static_cast<unsigned>(n));
  };
  for (int round = 0; round < 60; ++round) {
    std::vector<Request> requests;
    const int count = below(40);
    for (int i = 0; i < count; ++i) requests.push_back(request_of(1 + below(20), below(20)));
    support::ListJob job(requests);
    const Batching batching = batching_of(1 + below(4), 1 + below(2), 1 + below(4));
    const std::int32_t pages = 10 + below(12);  // 40 tokens: the longest alone
    Admission admission(job, batching, 2, ledger_of(pages, batching.slots(2)));
    StagePages stage(pages);
    admission.admit_all();
    std::deque<Pass> under_way;
    std::vector<std::int32_t> flights(static_cast<std::size_t>(admission.micro_batches()), 0);
    const auto launch_idle = [&] {
      for (std::int32_t m = 0; m < admission.micro_batches(); ++m) {
        Pass pass;
        const bool idle = flights[static_cast<std::size_t>(m)] == 0;
        if ((!idle && below(3) > 0) || !admission.make_pass(m, pass)) continue;
        stage.apply(pass);
        ++flights[static_cast<std::size_t>(m)];
        under_way.push_back(pass);
      }
    };
    launch_idle();
    while (!under_way.empty()) {
      const Pass pass = under_way.front();
      under_way.pop_front();
      --flights[static_cast<std::size_t>(pass.micro_batch)];
      admission.take(pass, answer(pass));
      admission.admit(pass.micro_batch);
      launch_idle();
    }
    ASSERT_EQ(admission.requests(), requests.size());
    stepped_back += admission.stepped_back();
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const std::vector<std::int32_t>& tokens = job.answers[i].tokens;
      ASSERT_EQ(tokens.size(), static_cast<std::size_t>(requests[i].max_tokens));
      for (std::size_t k = 0; k < tokens.size(); ++k) {
        ASSERT_EQ(tokens[k], static_cast<std::int32_t>(100 + requests[i].prompt.size() + k));
      }
    }
  }
  EXPECT_GT(stepped_back, 30U);
}

}  // namespace
}  // namespace sluice::stage
