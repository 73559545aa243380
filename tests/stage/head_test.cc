// Admission by hand: what passes it makes, and what it does with results.
#include "stage/head.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/head_answers.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

using support::answer;
using support::request_of;

Batching batching_of(std::int32_t size, std::int32_t batches, std::int32_t micro_batches,
                     std::int32_t tokens) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.num_gpu_batches = batches;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = tokens;
  batching.max_sequence_tokens = 64;
  return batching;
}

TEST(AdmissionTest, FirstRequestsAreSpreadOverMicroBatches) {
  support::ListJob job({request_of(2, 1), request_of(2, 1), request_of(2, 1)});
  Admission admission(job, batching_of(4, 1, 3, 16), 2);
  admission.admit_all();
  for (std::int32_t m = 0; m < 3; ++m) {
    Pass pass;
    ASSERT_TRUE(admission.make_pass(m, pass));
    EXPECT_EQ(pass.rows.size(), 1U);
  }
}

TEST(AdmissionTest, LongPromptsAreCutIntoChunksBesideDecodingRows) {
  support::ListJob job({request_of(1, 5), request_of(20, 1)});
  Admission admission(job, batching_of(2, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  std::vector<std::int32_t> chunks;
  while (admission.make_pass(0, pass)) {
    std::int32_t tokens = 0;
    for (const PassRow& row : pass.rows) {
      tokens += row.new_tokens;
      if (row.slot == 1) chunks.push_back(row.new_tokens);
    }
    EXPECT_LE(tokens, 8);
    EXPECT_EQ(tokens, pass.batch_tokens[0]);
    admission.take(pass, answer(pass));
  }
  EXPECT_EQ(chunks, (std::vector<std::int32_t>{7, 7, 6}));
  EXPECT_EQ(job.answers[1].tokens, (std::vector<std::int32_t>{120}));
  EXPECT_EQ(job.answers[0].tokens.size(), 5U);
}

// A prompt's first answer token comes in the time of prefill; a chunk of one token is prefill
// still.
TEST(AdmissionTest, PrefillAndDecodeAreToldApart) {
  support::ListJob job({request_of(9, 3), request_of(1, 4)});
  Admission admission(job, batching_of(2, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  std::vector<std::int32_t> prefill;
  std::vector<std::size_t> tokens;
  while (admission.make_pass(0, pass)) {
    prefill.push_back(admission.prefill_tokens(pass));
    tokens.push_back(pass.tokens.size());
    admission.take(pass, answer(pass));
  }
  // 8 of the long prompt; its last beside the short one; then both decode, at last one alone.
  EXPECT_EQ(prefill, (std::vector<std::int32_t>{8, 2, 0, 0, 0}));
  EXPECT_EQ(tokens, (std::vector<std::size_t>{8, 2, 2, 2, 1}));
  EXPECT_EQ(admission.completion_tokens(), 7U);
  EXPECT_EQ(admission.decode_tokens(), 5U) << "all but the first of each answer";
}

TEST(AdmissionTest, AFinishedRowsPlaceIsTakenByTheNextPrompt) {
  std::vector<Request> requests;
  for (std::int32_t i = 0; i < 5; ++i) requests.push_back(request_of(3, i == 0 ? 1 : 4));
  support::ListJob job(requests);
  Admission admission(job, batching_of(2, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  admission.take(pass, answer(pass));  // request 0 is done
  admission.admit(0);
  ASSERT_TRUE(admission.make_pass(0, pass));
  ASSERT_EQ(pass.rows.size(), 2U);
  EXPECT_EQ(pass.rows[0].slot, 1);  // decoding first
  EXPECT_EQ(pass.rows[0].new_tokens, 1);
  EXPECT_EQ(pass.rows[1].slot, 0);
  EXPECT_EQ(pass.rows[1].position, 0);
  EXPECT_EQ(pass.rows[1].new_tokens, 3);
}

TEST(AdmissionTest, PromptsWithoutAnswerEndAfterTheirLastChunk) {
  support::ListJob job({request_of(10, 0)});
  Admission admission(job, batching_of(1, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  std::int32_t passes = 0;
  while (admission.make_pass(0, pass)) {
    EXPECT_FALSE(pass.rows[0].sample);
    admission.take(pass, answer(pass));
    ++passes;
  }
  EXPECT_EQ(passes, 2);
  EXPECT_TRUE(job.answers[0].prompt_done);
  EXPECT_EQ(admission.active_rows(), 0);
}

/// What follows the last token of a prompt that is only scored is nobody's question.
TEST(AdmissionTest, OnlyTokensAskedForAreScoredAndTheLastIsNotComputed) {
  Request scored = request_of(20, 0);
  scored.scores_from = 12;
  support::ListJob job({scored});
  Admission admission(job, batching_of(1, 1, 1, 8), 1);
  admission.admit_all();
  std::vector<std::int32_t> computed, wanted;
  for (Pass pass; admission.make_pass(0, pass);) {
    PassResults results;
    results.micro_batch = pass.micro_batch;
    const PassRow& row = pass.rows.at(0);
    EXPECT_FALSE(row.sample);
    EXPECT_EQ(row.total, 19);
    computed.push_back(row.new_tokens);
    for (std::int32_t i = row.first_scored(); i < row.end_scored(); ++i) {
      wanted.push_back(i);
      results.add(row.slot, i, {scored.prompt[static_cast<std::size_t>(i)], -1.0F, {}});
    }
    EXPECT_EQ(row.next_token,
              scored.prompt[static_cast<std::size_t>(row.position + row.new_tokens)]);
    admission.take(pass, results);
  }
  EXPECT_EQ(computed, (std::vector<std::int32_t>{8, 8, 3}));
  EXPECT_EQ(wanted, (std::vector<std::int32_t>{12, 13, 14, 15, 16, 17, 18, 19}));
  EXPECT_EQ(job.answers[0].prompt_results.size(), 8U);
  EXPECT_TRUE(job.answers[0].prompt_done);
  EXPECT_EQ(job.answers[0].failure, "");
  EXPECT_EQ(admission.active_rows(), 0);
}

TEST(AdmissionTest, AFailedRowEndsAloneAndTheOthersGoOn) {
  support::ListJob job({request_of(2, 2), request_of(2, 2)});
  Admission admission(job, batching_of(2, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  PassResults results = answer(pass);
  results.entries[0].token = -1;
  admission.take(pass, results);
  EXPECT_FALSE(job.answers[0].failure.empty());
  ASSERT_TRUE(admission.make_pass(0, pass));
  admission.take(pass, answer(pass));
  EXPECT_FALSE(admission.make_pass(0, pass));
  EXPECT_EQ(job.answers[1].tokens.size(), 2U);
  EXPECT_EQ(admission.failed(), 1U);
}

TEST(AdmissionTest, ResultsThatDoNotFitThePassAreRefused) {
  support::ListJob job({request_of(2, 2)});
  Admission admission(job, batching_of(1, 1, 1, 8), 1);
  admission.admit_all();
  Pass pass;
  ASSERT_TRUE(admission.make_pass(0, pass));
  PassResults missing = answer(pass);
  missing.entries.clear();
  EXPECT_THROW(admission.take(pass, missing), CommError);
  PassResults other = answer(pass);
  other.number = 99;
  EXPECT_THROW(admission.take(pass, other), CommError);
  PassResults more = answer(pass);
  more.entries.push_back(more.entries[0]);
  more.entries.back().slot = 5;
  EXPECT_THROW(admission.take(pass, more), CommError);
}

// Any mixture, any batching: every request gets exactly its tokens, whatever shares its pass.
TEST(AdmissionTest, NoRequestIsLostOrServedTwice) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    std::vector<Request> requests;
    const int count = static_cast<int>(random() % 30);
    for (int i = 0; i < count; ++i) {
      requests.push_back(request_of(1 + static_cast<std::int32_t>(random() % 30),
                                    static_cast<std::int32_t>(random() % 6)));
    }
    support::ListJob job(requests);
    const auto size = 1 + static_cast<std::int32_t>(random() % 4);
    Admission admission(job,
                        batching_of(size, 1 + static_cast<std::int32_t>(random() % 3),
                                    1 + static_cast<std::int32_t>(random() % 4),
                                    size + static_cast<std::int32_t>(random() % 12)),
                        2);
    admission.admit_all();
    bool working = true;
    while (working) {
      working = false;
      for (std::int32_t m = 0; m < admission.micro_batches(); ++m) {
        Pass pass;
        if (!admission.make_pass(m, pass)) continue;
        working = true;
        admission.take(pass, answer(pass));
        admission.admit(m);
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

}  // namespace
}  // namespace sluice::stage
