// Log-probabilities of given tokens are Hugging Face's, on every reference checkpoint, and the same
// bits come out of every placement, number of stages and size of chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/test_name.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;
using support::ReferenceRows;

/// Logits as recorded are rounded to 7 digits.
constexpr double kTolerance = 2e-4;

class ScoresTest : public testing::TestWithParam<std::string> {
 protected:
  ScoresTest() : rows_(support::read_reference_rows(GetParam())) {
    const auto size = static_cast<std::int32_t>(rows_.prompt.size());
    for (std::int32_t border = 1; border < size; ++border) {
      add(border, {rows_.prompt.begin() + border, rows_.prompt.end()});
      for (std::size_t i = 0; i < 3; ++i) {
        const std::size_t other =
            (static_cast<std::size_t>(border) * 37 + i * 101) % rows_.logit_ids.size();
        add(border, {rows_.logit_ids[other]});
      }
    }
  }

  /// Asks for `tokens` behind the first `border` ones of the prompt.
  void add(std::int32_t border, const std::vector<std::int32_t>& tokens) {
    stage::Request& request = requests_.emplace_back();
    request.prompt.assign(rows_.prompt.begin(), rows_.prompt.begin() + border);
    request.prompt.insert(request.prompt.end(), tokens.begin(), tokens.end());
    request.scores_from = border;
    request.max_tokens = 0;
  }

  std::map<std::uint64_t, ListJob::Answer> answers(const PipelineOptions& options) {
    ListJob job(requests_);
    support::run_pipeline(launcher::open_model(rows_.folder.string()), options, job);
    return job.answers;
  }

  ReferenceRows rows_;
  std::vector<stage::Request> requests_;
};

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy, std::int32_t size,
                           std::int32_t tokens) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = size;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = tokens;
  options.batching.max_sequence_tokens = 16;
  return options;
}

TEST_P(ScoresTest, AreHuggingFacesAndTheSameBitsEverywhere) {
  const auto whole = answers(options_of(1, policy_of(100, 0, 100, 0, 100, 0), 8, 64));
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const stage::Request& request = requests_[i];
    const ListJob::Answer& answer = whole.at(i);
    ASSERT_EQ(answer.failure, "");
    EXPECT_TRUE(answer.prompt_done);
    const auto border = static_cast<std::size_t>(request.scores_from);
    ASSERT_EQ(answer.prompt_results.size(), request.prompt.size() - border);
    for (std::size_t k = 0; k < answer.prompt_results.size(); ++k) {
      const std::int32_t token = request.prompt[border + k];
      EXPECT_EQ(answer.prompt_results[k].token, token);
      const auto expected = rows_.logprob(border + k - 1, token);
      if (!expected) continue;
      EXPECT_NEAR(answer.prompt_results[k].logprob, *expected, kTolerance) << i << " " << k;
    }
  }
  const std::int32_t layers = launcher::open_model(rows_.folder.string()).config.layers;
  for (const PipelineOptions& options :
       {options_of(std::min(layers, 3), policy_of(30, 40, 50, 20, 50, 50), 3, 4),
        options_of(2, policy_of(0, 0, 0, 0, 0, 0), 2, 3)}) {
    const auto cut = answers(options);
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      ASSERT_EQ(cut.at(i).prompt_results.size(), whole.at(i).prompt_results.size());
      for (std::size_t k = 0; k < cut.at(i).prompt_results.size(); ++k) {
        ASSERT_EQ(cut.at(i).prompt_results[k].logprob, whole.at(i).prompt_results[k].logprob);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ScoresTest, testing::ValuesIn(support::checkpoint_names()),
                         support::test_name);

}  // namespace
}  // namespace sluice
