// The schedule is the law: on an engine that records what is put on its lanes, the order that the
// executor's events, waits and threads make is the order of the schedule's edges, neither more nor
// less, from pass to pass. And every task puts the bytes on its lane that it is priced with.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "stage/pass_shape.h"
#include "stage/schedule_edges.h"
#include "tests/support/recording_stage.h"
#include "tests/support/schedule_law.h"

namespace sluice::stage {
namespace {

using support::RecordingStage;

using support::kBegin;
using support::RunPass;
using support::ScheduleLaw;

// ------------------------------------------------------------------------------------ the stages

constexpr std::int32_t kSequences = 3;  // of a GPU batch

struct Case {
  offload::Policy policy;
  std::int32_t stage = 0;
  std::int32_t stages = 1;
  bool by_device = false;
  bool samples = false;
  std::int32_t gpu_batches = 1;
  std::vector<std::int32_t> windows = {};  // of a stage's layers; then prompts are longer
};

StageLayout layout_of(const Case& one) {
  StageLayout layout;
  DecoderConfig& model = layout.model;
  model.layers = 3 * one.stages;
  model.hidden = model.embedding.width = 16;
  model.attention.query_heads = model.attention.kv_heads = 2;
  model.attention.head_width = 8;
  model.attention.scale = 1;
  model.mlp.width = 32;
  model.vocabulary = 40;
  model.max_positions = 100;
  model.dtype = DType::f32;
  const bool is_long = !one.windows.empty();
  for (std::int32_t i = 0; i < (is_long ? one.stages : 0); ++i) {
    model.attention.windows.insert(model.attention.windows.end(), one.windows.begin(),
                                   one.windows.end());
  }
  layout.config.first_layer = 3 * one.stage;
  layout.config.layers = 3;
  layout.config.policy = one.policy;
  layout.batching.gpu_batch_size = kSequences;
  layout.batching.num_gpu_batches = one.gpu_batches;
  layout.batching.micro_batches = one.stages > 1 ? 2 : 1;
  layout.batching.max_tokens_per_gpu_batch = is_long ? 192 : 64;
  layout.batching.max_sequence_tokens = is_long ? 96 : 48;
  layout.stage = one.stage;
  layout.stages = one.stages;
  layout.device_channel = one.by_device;
  layout.device_samples = one.samples;
  return layout;
}

/// Tokens of a prompt: of three sequences, one fills a page in its prompt and one in each of two
/// later steps.
std::int32_t prompt_tokens(const StageLayout& layout, std::int32_t slot) {
  return layout.batching.max_sequence_tokens - 34 + slot % 3;
}

/// Every micro-batch in turn: a prompt, then decode steps, of which one lacks a GPU batch.
Pass make_pass(const StageLayout& layout, std::int64_t number) {
  const Batching& batching = layout.batching;
  Pass pass;
  pass.number = number;
  pass.micro_batch = static_cast<std::int32_t>(number % batching.micro_batches);
  const auto step = static_cast<std::int32_t>(number / batching.micro_batches);
  const bool lacks_one = step == 2 && batching.num_gpu_batches > 1;
  const std::int32_t per_micro_batch = batching.num_gpu_batches * kSequences;
  for (std::int32_t g = 0; g < batching.num_gpu_batches; ++g) {
    std::int32_t& tokens = pass.batch_tokens.emplace_back(0);
    if (lacks_one && g == 1) continue;
    for (std::int32_t i = 0; i < kSequences; ++i) {
      PassRow& row = pass.rows.emplace_back();
      row.slot = pass.micro_batch * per_micro_batch + g * kSequences + i;
      const std::int32_t prompt = prompt_tokens(layout, row.slot);
      // The GPU batch that was left out is a step behind from then on.
      const std::int32_t steps =
          step - (g == 1 && step > 2 && batching.num_gpu_batches > 1 ? 1 : 0);
      row.position = step == 0 ? 0 : prompt + steps - 1;
      row.new_tokens = step == 0 ? prompt : 1;
      row.total = layout.batching.max_sequence_tokens;
      row.first_token = tokens;
      row.gpu_batch = g;
      row.sample = !(g == 0 && step == 0);  // a prompt that goes on: no logits
      tokens += row.new_tokens;
      pass.tokens.resize(pass.tokens.size() + static_cast<std::size_t>(row.new_tokens), 1);
    }
  }
  return pass;
}

std::string run_case(const Case& one, bool exactly) {
  const StageLayout layout = layout_of(one);
  RecordingStage stage(layout);
  ScheduleLaw law(layout, stage);
  ScheduleEdges edges(stage.executor().shape(), one.gpu_batches, layout.batching.micro_batches);
  std::vector<std::byte> header(max_pass_bytes(layout.batching, layout.stages));
  std::size_t first = 0;
  for (std::int64_t number = 0; number < 4 * layout.batching.micro_batches; ++number) {
    const std::span<const std::byte> bytes = encode(make_pass(layout, number), header);
    stage.world().tell({bytes.begin(), bytes.end()});
    stage.recorder().set_context(kBegin);
    const Pass& pass = stage.inbox().next();
    Executor& executor = stage.executor();
    executor.plan(pass);
    RunPass run{executor.shape(), {executor.tasks().begin(), executor.tasks().end()}, first};
    edges.add(run.shape, run.tasks);
    executor.begin(pass);
    for (std::size_t i = 0; i < run.tasks.size(); ++i) {
      stage.recorder().set_context(static_cast<std::int64_t>(first + i));
      executor.run_task(executor.tasks()[i], pass, stage.inbox());
    }
    stage.recorder().set_context(kBegin);
    executor.end(pass);
    first += run.tasks.size();
    law.add(std::move(run));
  }
  stage.executor().drain();
  return law.check(exactly);
}

struct CacheCase {
  const char* name;
  offload::Shares shares;
  bool host_attends;
};
constexpr CacheCase kCaches[] = {
    {"device", {100, 0, 0}, false},      {"host", {0, 100, 0}, false},
    {"attended", {0, 100, 0}, true},     {"some", {50, 50, 0}, false},
    {"someattended", {50, 50, 0}, true}, {"disk", {0, 0, 100}, false},
    {"all", {34, 33, 33}, false},        {"allattended", {34, 33, 33}, true},
};
constexpr offload::Shares kWeights[] = {{100, 0, 0}, {0, 100, 0}, {40, 60, 0}, {20, 30, 50}};
constexpr offload::Shares kActivations[] = {{100, 0, 0}, {40, 60, 0}, {30, 30, 40}};

struct StageCase {
  const char* name;
  std::int32_t stage;
  std::int32_t stages;
  bool by_device;
  bool samples;
};
constexpr StageCase kStages[] = {
    {"only", 0, 1, false, false},          {"onlysampling", 0, 1, false, true},
    {"first", 0, 3, false, false},         {"middle", 1, 3, false, false},
    {"last", 2, 3, false, false},          {"firstbydevice", 0, 3, true, false},
    {"middlebydevice", 1, 3, true, false}, {"lastbydevice", 2, 3, true, true},
};

class ScheduleLawTest : public testing::TestWithParam<std::tuple<CacheCase, StageCase>> {
 protected:
  Case one_of(const offload::Shares& weights, const offload::Shares& activations,
              std::int32_t gpu_batches) const {
    const auto& [cache, stage] = GetParam();
    Case one;
    one.policy.weights = weights;
    one.policy.cache = cache.shares;
    one.policy.cpu_cache_compute = cache.host_attends;
    one.policy.activations = activations;
    one.stage = stage.stage;
    one.stages = stage.stages;
    one.by_device = stage.by_device;
    one.samples = stage.samples;
    one.gpu_batches = gpu_batches;
    return one;
  }
};

TEST_P(ScheduleLawTest, TheExecutorsOrderIsTheSchedules) {
  std::size_t turn = 0;
  for (const offload::Shares& activations : kActivations) {
    const std::int32_t most = activations.device == 100 ? 8 : 5;
    for (const std::int32_t gpu_batches : {1, 2, 3, most}) {
      const offload::Shares& weights = kWeights[turn++ % std::size(kWeights)];
      Case one = one_of(weights, activations, gpu_batches);
      one.policy.weight_slots = turn % 3 == 0 ? 3 : 2;
      // A lane may order more than it must where it has copies of pages from disk, which come when
      // the disk is done, beside those of hidden states, and where a thread moves hidden states.
      const bool may_wait_more =
          activations.disk > 0 || (activations.device < 100 && one.policy.cache.disk > 0);
      const std::string problem = run_case(one, !may_wait_more);
      EXPECT_TRUE(problem.empty())
          << problem << "\n"
          << gpu_batches << " GPU batches, weights " << weights.device << " " << weights.host
          << ", activations " << activations.device << " " << activations.host;
    }
  }
}

TEST_P(ScheduleLawTest, AlsoWithTheMlpOnceOverAllGpuBatches) {
  std::size_t turn = 0;
  for (const std::int32_t gpu_batches : {1, 3, 8}) {
    Case one = one_of(kWeights[1 + turn++ % 3], kActivations[0], gpu_batches);
    one.policy.mlp_once = true;
    const std::string problem = run_case(one, true);
    EXPECT_TRUE(problem.empty()) << problem << "\n" << gpu_batches << " GPU batches";
  }
}

TEST_P(ScheduleLawTest, AlsoWhereLayersHaveAWindow) {
  const std::vector<std::int32_t> windows[] = {{20, 20, 20}, {0, 33, 0}, {5, 0, 20}};
  for (const std::int32_t gpu_batches : {1, 2, 3}) {
    for (const bool overlaps : {true, false}) {
      Case one = one_of(kWeights[2], kActivations[0], gpu_batches);
      one.windows = windows[gpu_batches - 1];
      one.policy.overlap = overlaps;
      const std::string problem = run_case(one, overlaps);
      EXPECT_TRUE(problem.empty()) << problem << "\n" << gpu_batches << " GPU batches";
    }
  }
}

/// Without overlap what is issued by one call may still overlap; nothing else may.
TEST_P(ScheduleLawTest, WithoutOverlapNothingIsIssuedBeforeTheLastIsDone) {
  for (const offload::Shares& activations : kActivations) {
    Case one = one_of(kWeights[2], activations, 2);
    one.policy.overlap = false;
    const std::string problem = run_case(one, false);
    EXPECT_TRUE(problem.empty()) << problem;
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, ScheduleLawTest,
                         testing::Combine(testing::ValuesIn(kCaches), testing::ValuesIn(kStages)),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param).name) + "_" +
                                  std::get<1>(one.param).name;
                         });

}  // namespace
}  // namespace sluice::stage
