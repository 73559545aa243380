// Sparse attention in a whole pipeline: the same tokens for every placement, number of stages and
// batching, through rows that step back and answers that are gone on with, and fewer bytes read.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "stage/drafter.h"
#include "tests/support/allocation_count.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using offload::Tier;
using support::ListJob;
using support::PipelineOptions;
using support::PipelineRun;
using support::policy_of;

constexpr double kSparsity = 0.1;

launcher::ModelFolder model_with(const std::vector<std::int32_t>& windows) {
  launcher::ModelFolder model =
      launcher::open_model(support::read_reference("opt-deep").folder.string());
  support::set_windows(windows, model);
  return model;
}

std::vector<stage::Request> requests() {
  std::vector<stage::Request> list(9);
  for (std::size_t i = 0; i < list.size(); ++i) {
    for (std::size_t k = 0; k < 40 + 9 * (i % 5); ++k) {
      list[i].prompt.push_back(static_cast<std::int32_t>((i * 37 + 11) * (k + 3) % 500));
    }
    list[i].max_tokens = 12 + static_cast<std::int32_t>(i % 7);
    list[i].sampling.answer_begin = static_cast<std::int32_t>(list[i].prompt.size());
    list[i].sampling.seed = i;
    if (i % 3 == 1) list[i].sampling.temperature = 0.9F;
  }
  return list;
}

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 3;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = 50;
  options.batching.max_sequence_tokens = 100;
  return options;
}

using Answers = std::vector<std::vector<std::int32_t>>;

Answers run(const launcher::ModelFolder& model, const PipelineOptions& options,
            const std::vector<stage::Request>& asked, PipelineRun* report = nullptr) {
  ListJob job(asked);
  PipelineRun made = support::run_pipeline(model, options, job);
  for (const stage::StageReport& stage : made.stages) {
    for (const stage::TierReport& tier : stage.tiers) EXPECT_EQ(tier.high_water, tier.planned);
  }
  if (report != nullptr) *report = std::move(made);
  Answers answers;
  for (const auto& [id, answer] : job.answers) {
    EXPECT_EQ(answer.failure, "");
    answers.push_back(answer.tokens);
  }
  return answers;
}

std::vector<offload::Policy> policies(double sparsity) {
  std::vector<offload::Policy> list = {
      policy_of(100, 0, 100, 0, 100, 0), policy_of(0, 100, 0, 100, 0, 100),
      policy_of(0, 100, 0, 100, 100, 0), policy_of(0, 0, 0, 0, 0, 0),
      policy_of(30, 40, 40, 30, 50, 50), policy_of(30, 40, 40, 30, 100, 0)};
  list[2].cpu_cache_compute = true;
  list[4].cpu_cache_compute = true;
  list[5].mlp_once = true;
  for (offload::Policy& policy : list) policy.attn_sparsity = sparsity;
  return list;
}

class SparseTest : public testing::TestWithParam<std::vector<std::int32_t>> {};

TEST_P(SparseTest, TokensAreTheSameInEveryPlacement) {
  const launcher::ModelFolder model = model_with(GetParam());
  PipelineOptions alone = options_of(1, policies(kSparsity)[0]);
  alone.batching.gpu_batch_size = 1;
  alone.batching.num_gpu_batches = 1;
  alone.batching.max_tokens_per_gpu_batch = 100;
  const Answers wanted = run(model, alone, requests());
  const Answers dense = run(model, options_of(1, policies(1.0)[0]), requests());
  EXPECT_NE(wanted, dense) << "what is left out must matter";
  EXPECT_EQ(run(model, options_of(2, policies(1.0)[4]), requests()), dense);
  for (const offload::Policy& policy : policies(kSparsity)) {
    for (const std::int32_t stages : {1, 3}) {
      EXPECT_EQ(run(model, options_of(stages, policy), requests()), wanted)
          << stages << " stages, cache " << policy.cache.device << " " << policy.cache.host
          << " attended by the host " << policy.cpu_cache_compute;
    }
  }
}

TEST_P(SparseTest, RowsThatStepBackHaveTheSameTokens) {
  const launcher::ModelFolder model = model_with(GetParam());
  std::vector<stage::Request> asked = requests();
  for (stage::Request& request : asked) {
    request.prompt.resize(15);
    request.sampling.answer_begin = 15;
    request.max_tokens = 60 + request.max_tokens;
  }
  for (const std::size_t kind : {0, 2}) {
    PipelineOptions options = options_of(1, policies(kSparsity)[kind]);
    PipelineRun roomy;
    const Answers wanted = run(model, options, asked, &roomy);
    const auto tier = static_cast<std::size_t>(kind == 0 ? Tier::device : Tier::host);
    std::uint64_t cache = 0;
    for (const offload::Reservation& entry : roomy.stages[0].plan) {
      if (entry.purpose == "KV cache" && static_cast<std::size_t>(entry.tier) == tier) {
        cache += entry.bytes;
      }
    }
    options.budgets.bytes[tier] = roomy.stages[0].tiers[tier].planned - cache * 6 / 10;
    PipelineRun tight;
    EXPECT_EQ(run(model, options, asked, &tight), wanted);
    EXPECT_GT(tight.run.stepped_back, 0U) << "policy " << kind;
  }
}

/// As --resume does with answers that were under way.
TEST_P(SparseTest, AnswersGoOnFromAnyToken) {
  const launcher::ModelFolder model = model_with(GetParam());
  const PipelineOptions options = options_of(2, policies(kSparsity)[4]);
  std::vector<stage::Request> asked = requests();
  const Answers whole = run(model, options, asked);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const auto had = static_cast<std::ptrdiff_t>(1 + i);
    asked[i].prompt.insert(asked[i].prompt.end(), whole[i].begin(), whole[i].begin() + had);
    asked[i].max_tokens -= static_cast<std::int32_t>(had);
  }
  const Answers rest = run(model, options, asked);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const auto had = static_cast<std::ptrdiff_t>(1 + i);
    EXPECT_EQ(rest[i], std::vector<std::int32_t>(whole[i].begin() + had, whole[i].end())) << i;
  }
}

/// Tokens of an answer have other keys and values than the same tokens of a prompt. A prompt that
/// holds a prompt and its answer has what is its own, though they ran right before it.
TEST_P(SparseTest, APromptThatHoldsAnAnswerIsAPrompt) {
  const launcher::ModelFolder model = model_with(GetParam());
  PipelineOptions options = options_of(1, policies(kSparsity)[0]);
  options.batching.gpu_batch_size = 1;
  options.batching.num_gpu_batches = 1;
  const std::vector<stage::Request> asked = requests();
  const Answers answers = run(model, options, asked);
  std::vector<stage::Request> later;
  std::vector<stage::Request> both;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    stage::Request& next = later.emplace_back(asked[i]);
    next.prompt.insert(next.prompt.end(), answers[i].begin(), answers[i].end());
    next.sampling.answer_begin = static_cast<std::int32_t>(next.prompt.size());
    next.max_tokens = 5;
    both.push_back(asked[i]);
    both.push_back(next);
  }
  const Answers alone = run(model, options, later);
  const Answers mixed = run(model, options, both);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_EQ(mixed[2 * i], answers[i]) << i;
    EXPECT_EQ(mixed[2 * i + 1], alone[i]) << i;
  }
}

/// Says every other token rightly.
class HalfRightDrafter : public stage::Drafter {
 public:
  HalfRightDrafter(const std::vector<stage::Request>& asked, const Answers& answers) {
    for (std::size_t i = 0; i < asked.size(); ++i) {
      whole_.push_back(asked[i].prompt);
      whole_.back().insert(whole_.back().end(), answers[i].begin(), answers[i].end());
    }
  }
  void draft(std::span<stage::DraftRow> rows) override {
    for (stage::DraftRow& row : rows) {
      for (const std::vector<std::int32_t>& whole : whole_) {
        if (!std::ranges::equal(std::span(whole).first(std::min(whole.size(), row.tokens.size())),
                                row.tokens)) {
          continue;
        }
        for (std::size_t i = 0; i < row.guesses.size(); ++i) {
          const std::size_t place = row.tokens.size() + i;
          row.guesses[i] = place < whole.size() && place % 2 == 0 ? whole[place] : 7;
        }
        row.count = static_cast<std::int32_t>(row.guesses.size());
      }
    }
  }

 private:
  std::vector<std::vector<std::int32_t>> whole_;
};

TEST_P(SparseTest, GuessesChangeNoToken) {
  const launcher::ModelFolder model = model_with(GetParam());
  const Answers wanted = run(model, options_of(1, policies(kSparsity)[0]), requests());
  for (const offload::Policy& policy : policies(kSparsity)) {
    HalfRightDrafter drafter(requests(), wanted);
    PipelineOptions options = options_of(2, policy);
    options.batching.draft_tokens = 3;
    options.drafter = &drafter;
    EXPECT_EQ(run(model, options, requests()), wanted)
        << "cache " << policy.cache.device << " " << policy.cache.host;
  }
}

INSTANTIATE_TEST_SUITE_P(Windows, SparseTest,
                         testing::Values(std::vector<std::int32_t>{},
                                         std::vector<std::int32_t>{0, 37}),
                         [](const auto& each) { return each.param.empty() ? "none" : "some"; });

TEST(SparseReportTest, FewerBytesOfTheCacheAreRead) {
  const launcher::ModelFolder model = model_with({});
  for (const std::size_t kind : {0, 2}) {
    PipelineRun dense;
    PipelineRun sparse;
    run(model, options_of(1, policies(1.0)[kind]), requests(), &dense);
    run(model, options_of(1, policies(kSparsity)[kind]), requests(), &sparse);
    const auto bytes_of = [](const PipelineRun& run) {
      const stage::ComputeWork& work = run.stages[0].decode.work;
      return static_cast<double>(work.kv_bytes + work.host_kv_bytes);
    };
    // All keys, and a tenth of the values and the newest one.
    EXPECT_LT(bytes_of(sparse), 0.6 * bytes_of(dense)) << "policy " << kind;
    EXPECT_GT(bytes_of(sparse), 0.5 * bytes_of(dense)) << "policy " << kind;
  }
}

/// Pages of the host that are streamed lose half of their bytes, but for the kept values.
TEST(SparseReportTest, KeysAloneAreFetchedFromTheHost) {
  const launcher::ModelFolder model = model_with({});
  PipelineRun dense;
  PipelineRun sparse;
  offload::Policy policy = policy_of(100, 0, 0, 100, 100, 0);
  run(model, options_of(1, policy), requests(), &dense);
  policy.attn_sparsity = kSparsity;
  const Answers wanted = run(model, options_of(1, policy), requests(), &sparse);
  const auto fetched = [](const PipelineRun& run) {
    return static_cast<double>(
        run.stages[0].decode.totals.bytes[static_cast<std::size_t>(Activity::host_to_device)]);
  };
  EXPECT_LT(fetched(sparse), 0.55 * fetched(dense));
  EXPECT_GT(fetched(sparse), 0.45 * fetched(dense));
  // Memory that a GPU cannot read is fetched whole.
  policy.pin_weight = false;
  EXPECT_EQ(run(model, options_of(1, policy), requests(), &sparse), wanted);
  EXPECT_GT(fetched(sparse), 0.9 * fetched(dense));
}

/// Counts what is allocated between two tokens of the first row.
class CountingJob : public ListJob {
 public:
  using ListJob::ListJob;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override {
    ++made_[id];
    if (id == 0 && made_[0] == 20) begin = support::allocation_count();
    if (id == 0 && made_[0] == 38) end = support::allocation_count();
    return made_[id] == 40 || result.token < 0;
  }
  std::int64_t begin = -1;
  std::int64_t end = -2;

 private:
  std::map<std::uint64_t, int> made_ = {{0, 0}, {1, 0}, {2, 0}, {3, 0}};
};

TEST(SparseReportTest, NothingIsAllocatedOnceThePipelineIsWarm) {
  const launcher::ModelFolder model = model_with({});
  for (const offload::Policy& policy : policies(kSparsity)) {
    std::vector<stage::Request> asked = requests();
    asked.resize(4);
    for (stage::Request& request : asked) request.max_tokens = 40;
    CountingJob job(asked);
    PipelineOptions options = options_of(1, policy);
    options.threads = 2;
    options.batching.max_sequence_tokens = 120;
    support::run_pipeline(model, options, job);
    EXPECT_EQ(job.end - job.begin, 0)
        << "cache " << policy.cache.device << " " << policy.cache.host;
  }
}

}  // namespace
}  // namespace sluice
