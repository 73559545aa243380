// Embeddings are Hugging Face's hidden states, on every reference checkpoint, and the same bits
// come out of every placement, number of stages and size of chunks.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/test_name.h"

namespace sluice {
namespace {

using stage::Embed;
using support::ListJob;
using support::PipelineOptions;
using support::policy_of;
using support::ReferenceRows;

/// Hidden states as recorded are rounded to 7 digits.
constexpr float kTolerance = 2e-4F;

class EmbeddingsTest : public testing::TestWithParam<std::string> {
 protected:
  /// Of every beginning of the prompt both embeddings, and an answer: rows mix.
  EmbeddingsTest()
      : rows_(support::read_reference_rows(GetParam())),
        model_(launcher::open_model(rows_.folder.string())) {
    for (std::size_t size = 1; size <= rows_.prompt.size(); ++size) {
      for (const Embed embed : {Embed::last, Embed::mean, Embed::none}) {
        stage::Request& request = requests_.emplace_back();
        request.prompt.assign(rows_.prompt.begin(),
                              rows_.prompt.begin() + static_cast<std::ptrdiff_t>(size));
        request.embed = embed;
        request.max_tokens = embed == Embed::none ? 2 : 0;
      }
    }
  }

  PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy, std::int32_t size,
                             std::int32_t tokens) const {
    PipelineOptions options;
    options.stages = stages;
    options.policy = policy;
    options.batching.gpu_batch_size = size;
    options.batching.num_gpu_batches = 2;
    options.batching.max_tokens_per_gpu_batch = tokens;
    options.batching.max_sequence_tokens = 16;
    options.batching.features = model_.config.feature_width();
    return options;
  }

  std::map<std::uint64_t, ListJob::Answer> answers(const PipelineOptions& options) {
    ListJob job(requests_);
    support::run_pipeline(model_, options, job);
    return job.answers;
  }

  /// Of the mean or the last of the first `size` tokens' hidden states.
  float expected(std::size_t size, Embed embed, std::size_t column) const {
    if (embed == Embed::last) return rows_.features[size - 1][column];
    double sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += static_cast<double>(rows_.features[i][column]);
    return static_cast<float>(sum / static_cast<double>(size));
  }

  ReferenceRows rows_;
  launcher::ModelFolder model_;
  std::vector<stage::Request> requests_;
};

TEST_P(EmbeddingsTest, AreHuggingFacesAndTheSameBitsEverywhere) {
  const auto whole = answers(options_of(1, policy_of(100, 0, 100, 0, 100, 0), 8, 64));
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const stage::Request& request = requests_[i];
    const ListJob::Answer& answer = whole.at(i);
    ASSERT_EQ(answer.failure, "");
    if (request.embed == Embed::none) {
      EXPECT_EQ(answer.tokens.size(), 2U);
      EXPECT_TRUE(answer.embedding.empty());
      continue;
    }
    EXPECT_TRUE(answer.prompt_done);
    ASSERT_EQ(answer.embedding.size(), rows_.features.front().size());
    for (std::size_t c = 0; c < answer.embedding.size(); ++c) {
      ASSERT_NEAR(answer.embedding[c], expected(request.prompt.size(), request.embed, c),
                  kTolerance)
          << i << " " << c;
    }
  }
  for (const PipelineOptions& options :
       {options_of(std::min(model_.config.layers, 3), policy_of(30, 40, 50, 20, 50, 50), 3, 4),
        options_of(2, policy_of(0, 0, 0, 0, 0, 0), 2, 3)}) {
    const auto cut = answers(options);
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      ASSERT_EQ(cut.at(i).embedding, whole.at(i).embedding) << i;
      ASSERT_EQ(cut.at(i).tokens, whole.at(i).tokens) << i;
    }
  }
}

TEST_P(EmbeddingsTest, AreTheSameWhereTheDeviceSamples) {
  PipelineOptions options = options_of(1, policy_of(100, 0, 100, 0, 100, 0), 3, 5);
  const auto by_host = answers(options);
  options.device_samples = true;
  const auto by_device = answers(options);
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    ASSERT_EQ(by_device.at(i).embedding, by_host.at(i).embedding) << i;
    ASSERT_EQ(by_device.at(i).tokens, by_host.at(i).tokens) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, EmbeddingsTest,
                         testing::ValuesIn(support::checkpoint_names()), support::test_name);

}  // namespace
}  // namespace sluice
