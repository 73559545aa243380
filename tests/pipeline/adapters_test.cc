// Adapters of rows: what comes out is what the merged model gives, a batch may mix them, and the
// same bits come out of every placement, number of stages and size of chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tests/support/adapter_files.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/test_name.h"

namespace sluice {
namespace {

using support::ListJob;
using support::MadeAdapter;
using support::PipelineOptions;
using support::policy_of;

constexpr float kTolerance = 1e-4F;
using Answers = std::map<std::uint64_t, ListJob::Answer>;

class AdaptersTest : public testing::TestWithParam<std::string> {
 protected:
  /// Adapter 0 has all products that may have one; 1 has every other such module of layer 1.
  AdaptersTest() : rows_(support::read_reference_rows(GetParam())) {
    adapters_[0] = support::make_adapter(rows_.folder, 3, 6, 1, may_have_one);
    bool odd = false;
    adapters_[1] = support::make_adapter(rows_.folder, 8, 4, 2, [&odd](const std::string& name) {
      return may_have_one(name) && name.find(".1.") != std::string::npos && (odd = !odd);
    });
    for (int i = 0; i < 2; ++i) support::write_adapter(adapters_[i], folder(i));
  }

  /// Neither the experts of a mixture nor its router have adapters.
  static bool may_have_one(const std::string& weight) {
    return std::ranges::none_of(
        std::array{"expert", "_moe.", ".mlp.gate.", ".ffn.", "router"},
        [&](const char* part) { return weight.find(part) != std::string::npos; });
  }

  std::filesystem::path folder(int adapter) const {
    return scratch_.path() / ("adapter" + std::to_string(adapter));
  }

  /// Of every beginning of the prompt one row without an adapter, and one with each.
  std::vector<stage::Request> requests() const {
    std::vector<stage::Request> made;
    for (std::size_t size = 2; size <= rows_.prompt.size(); ++size) {
      for (std::int32_t adapter = -1; adapter < 2; ++adapter) {
        stage::Request& request = made.emplace_back();
        request.prompt.assign(rows_.prompt.begin(),
                              rows_.prompt.begin() + static_cast<std::ptrdiff_t>(size));
        request.max_tokens = 3;
        request.scores_from = 1;
        request.sampling.logprobs = 0;
        request.adapter = adapter;
      }
    }
    return made;
  }

  PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy, std::int32_t size,
                             std::int32_t tokens) const {
    PipelineOptions options;
    options.stages = stages;
    options.policy = policy;
    options.batching.gpu_batch_size = size;
    options.batching.num_gpu_batches = 2;
    options.batching.max_tokens_per_gpu_batch = tokens;
    options.batching.max_sequence_tokens = 24;
    return options;
  }

  Answers answers_of(const std::filesystem::path& model, PipelineOptions options,
                     std::vector<stage::Request> requests, bool adapted) const {
    if (adapted) {
      options.adapters = {"zero=" + folder(0).string(), "one=" + folder(1).string()};
    } else {
      for (stage::Request& request : requests) request.adapter = -1;
    }
    ListJob job(std::move(requests));
    support::run_pipeline(launcher::open_model(model.string()), options, job);
    for (const auto& [id, answer] : job.answers) EXPECT_EQ(answer.failure, "");
    return job.answers;
  }
  Answers adapted(const PipelineOptions& options) const {
    return answers_of(rows_.folder, options, requests(), true);
  }

  static std::vector<float> logprobs(const ListJob::Answer& answer) {
    std::vector<float> values;
    for (const auto& result : answer.prompt_results) values.push_back(result.logprob);
    for (const auto& result : answer.results) values.push_back(result.logprob);
    return values;
  }
  static void expect_same_bits(const Answers& left, const Answers& right) {
    ASSERT_EQ(left.size(), right.size());
    for (const auto& [id, answer] : left) {
      ASSERT_EQ(answer.tokens, right.at(id).tokens) << id;
      ASSERT_EQ(logprobs(answer), logprobs(right.at(id))) << id;
    }
  }

  support::ReferenceRows rows_;
  support::ScratchFolder scratch_;
  MadeAdapter adapters_[2];
};

TEST_P(AdaptersTest, AreWhatTheMergedModelGives) {
  ASSERT_GT(adapters_[1].modules.size(), 0U);
  const PipelineOptions options = options_of(1, policy_of(100, 0, 100, 0, 100, 0), 5, 32);
  const std::vector<stage::Request> asked = requests();
  const Answers mixed = adapted(options);
  const Answers plain = answers_of(rows_.folder, options, asked, false);
  for (std::int32_t adapter = -1; adapter < 2; ++adapter) {
    Answers expected = plain;
    if (adapter >= 0) {
      const std::filesystem::path merged = scratch_.path() / ("merged" + std::to_string(adapter));
      support::write_merged(rows_.folder, adapters_[adapter], merged);
      expected = answers_of(merged, options, asked, false);
    }
    float change = 0;  // that the adapter makes
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (asked[i].adapter != adapter) continue;
      const std::vector<float> got = logprobs(mixed.at(i));
      const std::vector<float> want = logprobs(expected.at(i));
      const std::vector<float> without = logprobs(plain.at(i));
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t k = 0; k < got.size(); ++k) {
        // Once tokens differ nothing else is alike.
        const std::size_t prompt = asked[i].prompt.size() - 1;
        if (k >= prompt && mixed.at(i).tokens[k - prompt] != expected.at(i).tokens[k - prompt]) {
          break;
        }
        ASSERT_NEAR(got[k], want[k], kTolerance) << adapter << " " << i << " " << k;
        change = std::max(change, std::fabs(got[k] - without[k]));
      }
      if (adapter < 0) {
        ASSERT_EQ(got, want) << "without an adapter the bits are the same";
      }
    }
    if (adapter >= 0) {
      EXPECT_GT(change, 100 * kTolerance);
    }
  }
}

TEST_P(AdaptersTest, GiveTheSameBitsEverywhere) {
  const Answers whole = adapted(options_of(1, policy_of(100, 0, 100, 0, 100, 0), 8, 64));
  const stage::DecoderConfig model = launcher::open_model(rows_.folder.string()).config;
  PipelineOptions once = options_of(1, policy_of(40, 60, 100, 0, 100, 0), 3, 7);
  once.policy.mlp_once = model.residual == stage::Residual::sequential;  // else forbidden
  PipelineOptions device = options_of(1, policy_of(100, 0, 100, 0, 100, 0), 3, 5);
  device.device_samples = true;
  for (const PipelineOptions& options :
       {options_of(std::min(model.layers, 3), policy_of(30, 40, 50, 20, 50, 50), 3, 4),
        options_of(2, policy_of(0, 0, 0, 0, 0, 0), 2, 3), once, device}) {
    expect_same_bits(adapted(options), whole);
  }
}

TEST_P(AdaptersTest, GoWithCompressedWeights) {
  PipelineOptions options = options_of(1, policy_of(100, 0, 100, 0, 100, 0), 5, 32);
  options.policy.compress_weight = offload::Compression::four_bit;
  const std::vector<stage::Request> asked = requests();
  const Answers whole = adapted(options);
  const Answers plain = answers_of(rows_.folder, options, asked, false);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const bool same = logprobs(whole.at(i)) == logprobs(plain.at(i));
    EXPECT_EQ(same, asked[i].adapter < 0) << i;
  }
  options.stages = 2;
  options.policy.weights = {30, 70, 0};
  expect_same_bits(adapted(options), whole);
}

// What the cache holds of a token depends on the adapter, and a mean needs every token's last
// layer.
TEST(AdaptersAndPrefixes, OnlyRowsOfOneAdapterShareTheirBeginning) {
  const std::filesystem::path model = support::read_reference("opt-pre").folder;
  const launcher::ModelFolder opened = launcher::open_model(model.string());
  const support::ScratchFolder scratch;
  PipelineOptions options;
  for (std::uint64_t i = 0; i < 2; ++i) {
    const std::string folder = (scratch.path() / std::to_string(i)).string();
    support::write_adapter(support::make_adapter(model, 4, 8, i, [](const auto&) { return true; }),
                           folder);
    options.adapters.push_back(std::to_string(i) + "=" + folder);
  }
  std::vector<stage::Request> requests;
  for (std::int32_t i = 0; i < 24; ++i) {
    stage::Request& request = requests.emplace_back();
    for (std::int32_t k = 0; k < 35 + i % 5; ++k) {
      const std::int32_t token = k < 35 ? k * 13 : k * 17 + i;
      request.prompt.push_back(4 + token % (opened.config.vocabulary - 4));
    }
    request.adapter = i % 3 - 1;
    request.embed = i % 4 == 1   ? stage::Embed::mean
                    : i % 4 == 2 ? stage::Embed::last
                                 : stage::Embed::none;
    request.max_tokens = request.embed == stage::Embed::none ? 4 : 0;
    request.sampling.logprobs = 0;
  }
  options.batching.gpu_batch_size = 3;
  options.batching.max_tokens_per_gpu_batch = 48;
  options.batching.max_sequence_tokens = 48;
  options.batching.features = opened.config.feature_width();
  options.policy = policy_of(100, 0, 60, 40, 100, 0);
  options.batching.share_prefixes = false;
  ListJob apart(requests);
  EXPECT_EQ(support::run_pipeline(opened, options, apart).run.shared_prefix_tokens, 0U);
  options.batching.share_prefixes = true;
  for (const std::int32_t stages : {1, 2}) {
    options.stages = stages;
    ListJob together(requests);
    EXPECT_GT(support::run_pipeline(opened, options, together).run.shared_prefix_tokens, 0U);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const ListJob::Answer& expected = apart.answers.at(i);
      const ListJob::Answer& answer = together.answers.at(i);
      ASSERT_EQ(answer.failure, "");
      ASSERT_EQ(answer.tokens, expected.tokens) << i;
      ASSERT_EQ(answer.embedding, expected.embedding) << i;
      for (std::size_t k = 0; k < answer.results.size(); ++k) {
        ASSERT_EQ(answer.results[k].logprob, expected.results[k].logprob) << i;
      }
    }
  }
}

std::vector<std::string> adaptable_names() {
  std::vector<std::string> names = support::checkpoint_names();
  std::erase(names, "yalm");  // no adapters are made of it
  return names;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, AdaptersTest, testing::ValuesIn(adaptable_names()),
                         support::test_name);

}  // namespace
}  // namespace sluice
