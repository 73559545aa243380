// Admission where the caches are too small for all slots: who starts when, and that nobody waits
// for ever.
#include <gtest/gtest.h>

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
      if (row.position == 0) {
        EXPECT_EQ(owned_[row.slot], 0) << "its last sequence was not said to have ended";
        owned_[row.slot] = (row.total - 1) / kPageTokens + 1;
        free_ -= owned_[row.slot];
      }
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
  EXPECT_EQ(stage.free(), 2);
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

// Any mixture, several passes under way, pages for little more than the longest: everything ends,
// and no stage ever misses a page.
TEST(PageAdmission, EveryRequestIsServedAndNoStageRunsOut) {
  std::mt19937 random(11);
  const auto below = [&random](std::int32_t n) {
    return static_cast<std::int32_t>(random() % static_cast<unsigned>(n));
  };
  for (int round = 0; round < 60; ++round) {
    std::vector<Request> requests;
    const int count = below(40);
    for (int i = 0; i < count; ++i) requests.push_back(request_of(1 + below(30), below(10)));
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
    for (std::size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(job.answers[i].tokens.size(), static_cast<std::size_t>(requests[i].max_tokens));
    }
  }
}

}  // namespace
}  // namespace sluice::stage
