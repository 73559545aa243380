// Rows that begin alike: what they share, and that no page is lost, read too early or read by
// another.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "stage/head.h"
#include "tests/support/list_job.h"
#include "tests/support/paged_stage.h"

namespace sluice::stage {
namespace {

using support::kLongest;
using support::next_token;
using support::PagedStage;

Batching batching_of(std::int32_t size, std::int32_t batches, std::int32_t micro_batches) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.num_gpu_batches = batches;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = 16;
  batching.max_sequence_tokens = kLongest;
  return batching;
}

Request request_of(const std::vector<std::int32_t>& tokens, std::int32_t max_tokens) {
  Request request;
  request.prompt = tokens;
  request.max_tokens = max_tokens;
  return request;
}

std::vector<std::int32_t> tokens_from(std::int32_t first, std::int32_t count) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) tokens.push_back(first + i);
  return tokens;
}

void expect_answers(const std::vector<Request>& requests, support::ListJob& job) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    std::vector<std::int32_t> tokens = requests[i].prompt;
    for (const std::int32_t token : job.answers[i].tokens) {
      ASSERT_EQ(token, next_token(tokens)) << "row " << i;
      tokens.push_back(token);
    }
    if (job.answers[i].cancelled) continue;
    ASSERT_EQ(job.answers[i].tokens.size(), static_cast<std::size_t>(requests[i].max_tokens));
  }
}

constexpr offload::Shares kDevice{100, 0, 0};

TEST(PrefixAdmission, ARowStartsBehindWhatAPassBeforeItComputes) {
  const std::vector<std::int32_t> common = tokens_from(7, 12);
  std::vector<std::int32_t> other = common;
  other.push_back(99);
  support::ListJob job({request_of(common, 2), request_of(other, 2), request_of(common, 2)});
  const Batching batching = batching_of(3, 1, 1);
  PagedStage stage(kDevice, batching.slots(1), 30);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 1U) << "two wait for the first";
  EXPECT_EQ(pass.rows[0].kept, 3);
  admission.admit_held();
  EXPECT_EQ(admission.active_rows(), 3) << "they need not wait for its results";
  admission.take(pass, stage.apply(pass));
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 3U);
  std::multiset<std::int32_t> starts;
  for (const PassRow& row : pass.rows) {
    if (row.starts) starts.insert(row.position);
  }
  EXPECT_EQ(starts, (std::multiset<std::int32_t>{11, 12})) << "a prompt's last token is computed";
  admission.take(pass, stage.apply(pass));
  while (admission.make_pass(0, pass)) admission.take(pass, stage.apply(pass));
  EXPECT_EQ(admission.shared_prefix_tokens(), 23U);
  EXPECT_EQ(job.answers[0].tokens, job.answers[2].tokens);
}

TEST(PrefixAdmission, WhoWaitsForARowThatLeavesComputesTheRestItself) {
  const std::vector<std::int32_t> common = tokens_from(7, 40);  // three passes
  support::ListJob job({request_of(common, 2), request_of(common, 2), request_of(common, 2)});
  const Batching batching = batching_of(3, 1, 1);
  PagedStage stage(kDevice, batching.slots(1), 40);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  admission.admit_held();
  EXPECT_EQ(admission.active_rows(), 1);
  admission.take(pass, stage.apply(pass));
  admission.cancel(0);
  admission.admit_all();
  EXPECT_EQ(admission.active_rows(), 1) << "the third waits for the second";
  ASSERT_TRUE(admission.make_pass(0, pass));
  EXPECT_EQ(pass.rows[0].position, 16);
  admission.take(pass, stage.apply(pass));
  while (admission.make_pass(0, pass)) {
    admission.admit_held();
    admission.take(pass, stage.apply(pass));
    admission.admit(0);
  }
  EXPECT_TRUE(admission.is_done());
  EXPECT_EQ(admission.stepped_back(), 0U);
  EXPECT_EQ(admission.shared_prefix_tokens(), 16U + 39U);
  EXPECT_EQ(job.answers[1].tokens.size(), 2U);
  EXPECT_EQ(job.answers[1].tokens, job.answers[2].tokens);
}

TEST(PrefixAdmission, ARowGoesOnInsideAPageOfAnother) {
  std::vector<std::int32_t> first = tokens_from(7, 11);  // its third page is not full
  std::vector<std::int32_t> second = tokens_from(7, 6);  // it leaves the first in its second page
  second.push_back(70);
  std::vector<std::int32_t> third = tokens_from(7, 10);
  third.push_back(71);
  support::ListJob job({request_of(first, 3), request_of(second, 3), request_of(third, 3)});
  const Batching batching = batching_of(3, 1, 1);
  PagedStage stage(kDevice, batching.slots(1), 30);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 1U);
  admission.admit_held();
  admission.take(pass, stage.apply(pass));
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 3U);
  for (const PassRow& row : pass.rows) {
    if (!row.starts) continue;
    EXPECT_EQ(row.new_tokens, 1) << "all others are there";
    EXPECT_EQ(row.copied_from >= 0, row.position == 6) << "that page is full, and a prefix";
    EXPECT_EQ(row.copied_of_slot >= 0, row.position == 10);
  }
  admission.take(pass, stage.apply(pass));
  while (admission.make_pass(0, pass)) admission.take(pass, stage.apply(pass));
  EXPECT_EQ(admission.shared_prefix_tokens(), 6U + 10U);
  expect_answers({request_of(first, 3), request_of(second, 3), request_of(third, 3)}, job);
}

/// A pass copies before it computes.
TEST(PrefixAdmission, NothingIsCopiedThatTheSamePassComputes) {
  const std::vector<std::int32_t> common = tokens_from(7, 3);
  support::ListJob job({request_of(common, 1), request_of(common, 1)});
  const Batching batching = batching_of(2, 1, 1);
  PagedStage stage(kDevice, batching.slots(1), 30);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 2U) << "they have no full page in common";
  for (const PassRow& row : pass.rows) EXPECT_EQ(row.position, 0);
}

TEST(PrefixAdmission, PromptTokensThatAreScoredAreComputed) {
  const std::vector<std::int32_t> common = tokens_from(7, 14);
  std::vector<Request> requests(5, request_of(common, 1));
  requests[1].scores_from = 1;
  requests[2].scores_from = 9;
  requests[3].scores_from = 8;
  requests[4].scores_from = 13;  // nothing but this one token's score is wanted
  requests[4].max_tokens = 0;
  support::ListJob job(requests);
  const Batching batching = batching_of(5, 1, 1);
  PagedStage stage(kDevice, batching.slots(1), 40);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  admission.admit_all();
  std::map<std::int32_t, std::int32_t> starts;  // by the first that is scored
  Pass pass;
  while (admission.make_pass(0, pass)) {
    for (const PassRow& row : pass.rows) {
      if (row.starts) starts[row.scores_from] = row.position;
    }
    admission.admit_held();
    admission.take(pass, stage.apply(pass));
  }
  EXPECT_EQ(starts,
            (std::map<std::int32_t, std::int32_t>{{0, 0}, {1, 0}, {8, 7}, {9, 8}, {13, 12}}));
}

TEST(PrefixAdmission, RowsThatBeginAlikeComeOneAfterTheOther) {
  for (const bool groups : {true, false}) {
    std::vector<Request> requests;
    for (std::int32_t i = 0; i < 8; ++i) {
      std::vector<std::int32_t> tokens = tokens_from(i % 2 == 0 ? 10 : 30, 8);
      tokens.push_back(i);
      requests.push_back(request_of(tokens, 0));
    }
    support::ListJob job(requests);
    Batching batching = batching_of(1, 1, 8);
    batching.group_prefixes = groups;
    PagedStage stage(kDevice, batching.slots(1), 80);
    Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
    std::vector<std::int32_t> order;
    while (!admission.is_done()) {
      admission.admit(0);
      for (std::int32_t m = 0; m < admission.micro_batches(); ++m) {
        Pass pass;
        if (!admission.make_pass(m, pass)) continue;
        order.push_back(pass.tokens.back());
        admission.take(pass, stage.apply(pass));
      }
    }
    EXPECT_EQ(admission.shared_prefix_tokens(), 6U * 8U);
    // The second half has to wait for no one when it comes.
    const std::vector<std::int32_t> grouped{0, 1, 2, 4, 6, 3, 5, 7};
    const std::vector<std::int32_t> as_given{0, 1, 2, 3, 4, 5, 6, 7};
    EXPECT_EQ(order, groups ? grouped : as_given);
  }
}

TEST(PrefixAdmission, NoRequestIsPassedByAllThatComeLater) {
  std::vector<Request> requests;
  for (std::int32_t i = 0; i < 40; ++i) {
    std::vector<std::int32_t> tokens = tokens_from(i == 1 ? 10 : 30, 8);
    tokens.push_back(i);
    requests.push_back(request_of(tokens, 0));
  }
  support::ListJob job(requests);
  const Batching batching = batching_of(2, 1, 2);  // it looks ahead for four
  PagedStage stage(kDevice, batching.slots(1), 80);
  Admission admission(job, batching, 1, PageLedger({stage.room(kDevice)}, batching.slots(1)));
  std::size_t passed_by = 0;
  while (job.answers[1].tokens.empty() && !job.answers[1].prompt_done) {
    ASSERT_LT(passed_by, 8U);
    admission.admit(0);
    for (std::int32_t m = 0; m < admission.micro_batches(); ++m) {
      Pass pass;
      if (!admission.make_pass(m, pass)) continue;
      passed_by += pass.rows.size();
      admission.take(pass, stage.apply(pass));
    }
  }
}

/// Requests of which many begin alike.
template <typename Below>
std::vector<Request> random_requests(const Below& below) {
  std::vector<Request> requests;
  for (int i = below(40); i > 0; --i) {
    std::vector<std::int32_t> tokens = tokens_from(10 * below(3), below(3) * 7);
    const std::int32_t more = 1 + below(12);
    for (std::int32_t k = 0; k < more; ++k) tokens.push_back(below(2));
    requests.push_back(request_of(tokens, below(20)));
    const auto prompt = static_cast<std::int32_t>(tokens.size());
    if (below(6) == 0 && prompt > 1) requests.back().scores_from = 1 + below(prompt - 1);
  }
  return requests;
}

// Any mixture on two stages, several passes under way, rows that are cancelled: answers are those
// of the tokens before them, whoever computed these, and every page comes back.
TEST(PrefixAdmission, NoPageIsLostOrReadByAnother) {
  std::mt19937 random(23);
  const auto below = [&random](std::int32_t n) {
    return static_cast<std::int32_t>(random() % static_cast<unsigned>(n));
  };
  constexpr offload::Shares kShares[] = {{100, 0, 0}, {50, 50, 0}, {34, 33, 33}};
  std::uint64_t shared = 0;
  std::uint64_t stepped_back = 0;
  for (int round = 0; round < 150; ++round) {
    const std::vector<Request> requests = random_requests(below);
    support::ListJob job(requests);
    const Batching batching = batching_of(1 + below(4), 1 + below(2), 1 + below(4));
    const std::int32_t slots = batching.slots(2);
    const offload::Shares shares[] = {kShares[below(3)], kShares[below(3)]};
    PagedStage stages[] = {{shares[0], slots, 12 + below(12)}, {shares[1], slots, 12 + below(12)}};
    Admission admission(job, batching, 2,
                        PageLedger({stages[0].room(shares[0]), stages[1].room(shares[1])}, slots));
    std::deque<std::pair<Pass, PassResults>> under_way;
    std::int64_t number = 0;
    const auto launch = [&] {
      for (std::int32_t m = 0; m < admission.micro_batches(); ++m) {
        Pass pass;
        if (!admission.make_pass(m, pass)) continue;
        pass.number = number++;
        PassResults results = stages[0].apply(pass);
        const PassResults others = stages[1].apply(pass);
        ASSERT_EQ(results.entries.size(), others.entries.size());
        for (std::size_t i = 0; i < others.entries.size(); ++i) {
          ASSERT_EQ(results.entries[i].token, others.entries[i].token);
        }
        under_way.emplace_back(pass, results);
        admission.admit_held();
      }
    };
    admission.admit_all();
    launch();
    while (!under_way.empty()) {
      const auto [pass, results] = under_way.front();
      under_way.pop_front();
      admission.take(pass, results);
      if (below(8) == 0 && !requests.empty()) {
        admission.cancel(static_cast<std::uint64_t>(below(static_cast<int>(requests.size()))));
      }
      admission.admit_all();
      launch();
    }
    ASSERT_TRUE(admission.is_done()) << round;
    expect_answers(requests, job);
    // What ended last is told to the stages by a pass that does not come any more.
    for (PagedStage& stage : stages) {
      for (std::int32_t slot = 0; slot < slots; ++slot) stage.give_back(slot);
      stage.expect_no_page_lost();
    }
    shared += admission.shared_prefix_tokens();
    stepped_back += admission.stepped_back();
  }
  EXPECT_GT(shared, 1000U);
  EXPECT_GT(stepped_back, 20U);
}

}  // namespace
}  // namespace sluice::stage
