#include "stage/task_work.h"

#include <gtest/gtest.h>

#include <tuple>

#include "stage/pass_shape.h"

namespace sluice::stage {
namespace {

using offload::Tier;

Tier on_device(std::int32_t /*slot*/) { return Tier::device; }

/// The computing of a whole pass: the sum of its tasks'.
ComputeWork pass_work(const StageLayout& layout, const Pass& pass,
                      const std::function<Tier(std::int32_t)>& tier_of = on_device);

/// Every tensor has f16 elements.
std::vector<offload::GroupPlacement> placed(const StageLayout& layout) {
  std::vector<offload::GroupPlacement> layers;
  for (const offload::GroupSpec& spec : layer_specs(layout)) {
    offload::GroupPlacement& layer = layers.emplace_back();
    for (const offload::WeightSpec& tensor : spec.tensors) {
      const std::int64_t rows = tensor.name.empty() ? 0 : tensor.rows;
      layer.tensors.push_back({{DType::f16, rows, tensor.columns, 0}, {rows, 0, 0}});
    }
  }
  return layers;
}

ComputeWork pass_work(const StageLayout& layout, const Pass& pass,
                      const std::function<Tier(std::int32_t)>& tier_of) {
  const auto groups = placed(layout);
  ScheduleShape shape = schedule_shape(layout, groups);
  set_pass(shape, layout, pass, tier_of);
  std::vector<Task> tasks;
  build_schedule(shape, tasks);
  return compute_work(work_of(tasks, shape, stage_work(layout, groups)));
}

StageLayout one_stage() {
  StageLayout layout;
  layout.model.layers = 3;
  layout.model.hidden = layout.model.embedding.width = 8;
  layout.model.attention = {2, 2, 4, true, true, 0.5F};
  layout.model.mlp.width = 32;
  layout.model.vocabulary = 100;
  layout.model.max_positions = 64;
  layout.config.layers = 3;
  layout.batching.gpu_batch_size = 2;
  layout.batching.num_gpu_batches = 2;
  layout.batching.max_sequence_tokens = 64;
  return layout;
}

PassRow row(std::int32_t gpu_batch, std::int32_t position, std::int32_t new_tokens) {
  PassRow made;
  made.slot = gpu_batch;
  made.gpu_batch = gpu_batch;
  made.position = position;
  made.new_tokens = new_tokens;
  made.sample = true;
  return made;
}

constexpr double kLayerElements = 4 * 8 * 8 + 2 * 8 * 32;

TEST(TaskWorkTest, OfOneTokenIsEveryMatrixOnce) {
  const StageLayout layout = one_stage();
  Pass pass;
  pass.rows = {row(0, 9, 1)};
  pass.batch_tokens = {1, 0};
  const ComputeWork work = pass_work(layout, pass);
  const double attention = 4.0 * 8 * 3 * 10;
  EXPECT_DOUBLE_EQ(work.flop, 2 * (3 * kLayerElements + 100 * 8) + attention);
  EXPECT_EQ(work.kv_bytes, 2U * 3 * 8 * 4 * 10);  // f32, ten tokens
  std::uint64_t weights = 0;
  const auto layers = placed(layout);
  for (std::size_t l = 1; l < layers.size(); ++l) weights += layers[l].total_bytes();
  EXPECT_EQ(work.weight_bytes, weights + 2 * 8 * 2);  // and two rows of the embedding
  EXPECT_EQ(work.host_kv_bytes, 0U);
  EXPECT_EQ(work.host_flop, 0.0);
}

/// Two of four experts in each layer.
TEST(TaskWorkTest, ATokenIsMultipliedWithItsExpertsAloneAndManyTokensReadThemAll) {
  StageLayout layout = one_stage();
  layout.model.mlp.gated = true;
  layout.model.mlp.bias = false;
  layout.model.mixture.experts = 4;
  layout.model.mixture.width = 16;
  layout.model.mixture.router.chosen = 2;
  layout.batching.max_tokens_per_gpu_batch = 64;
  const double expert = 3 * 8 * 16;
  const auto of = [&](std::int32_t tokens) {
    Pass pass;
    pass.rows = {row(0, 0, tokens)};
    pass.rows.front().sample = false;
    pass.batch_tokens = {tokens, 0};
    return pass_work(layout, pass);
  };
  const ComputeWork one = of(1);
  const double attention = 4.0 * 8 * 3;
  EXPECT_DOUBLE_EQ(one.flop, 2 * 3 * (4 * 8 * 8 + 4 * 8 + 2 * expert) + attention);
  std::uint64_t layers = 0;
  const auto groups = placed(layout);
  for (std::size_t l = 1; l + 1 < groups.size(); ++l) layers += groups[l].total_bytes();
  const std::uint64_t embedding = 2 * 8 * 2;  // rows of tables, for each token
  const auto idle = static_cast<std::uint64_t>(3 * 2 * expert * 2);
  EXPECT_EQ(one.weight_bytes, layers - idle + embedding);
  const std::uint64_t many = of(40).weight_bytes;
  EXPECT_LE(many, layers + 40 * embedding);
  EXPECT_GE(many + 6, layers + 40 * embedding);  // parts of a byte in each layer
}

TEST(TaskWorkTest, EveryGpuBatchReadsTheWeightsAndNoTokenDoes) {
  const StageLayout layout = one_stage();
  Pass one;
  one.rows = {row(0, 5, 1)};
  one.batch_tokens = {1, 0};
  Pass two;
  two.rows = {row(0, 5, 1), row(1, 5, 1)};
  two.batch_tokens = {1, 1};
  Pass wide;
  wide.rows = {row(0, 5, 1), row(0, 5, 1)};
  wide.batch_tokens = {2, 0};
  const ComputeWork of_one = pass_work(layout, one);
  EXPECT_EQ(pass_work(layout, two).weight_bytes, 2 * of_one.weight_bytes);
  EXPECT_EQ(pass_work(layout, wide).weight_bytes, of_one.weight_bytes + 2 * 8 * 2);
  EXPECT_DOUBLE_EQ(pass_work(layout, wide).flop, 2 * of_one.flop);
  EXPECT_DOUBLE_EQ(pass_work(layout, two).flop, 2 * of_one.flop);
}

TEST(TaskWorkTest, APromptSeesAGrowingContextAndItsLastRowHasLogits) {
  const StageLayout layout = one_stage();
  Pass whole;
  whole.rows = {row(0, 0, 4)};
  whole.batch_tokens = {4, 0};
  const double attention = 4.0 * 8 * 3 * (1 + 2 + 3 + 4);
  EXPECT_DOUBLE_EQ(pass_work(layout, whole).flop,
                   2 * (4 * 3 * kLayerElements + 100 * 8) + attention);
  EXPECT_EQ(pass_work(layout, whole).kv_bytes, 2U * 3 * 8 * 4 * 4);
}

TEST(TaskWorkTest, AnEmbeddingTakesNoLogits) {
  StageLayout layout = one_stage();
  layout.batching.features = layout.model.feature_width();
  Pass pass;
  pass.rows = {row(0, 0, 4)};
  pass.batch_tokens = {4, 0};
  const double with_logits = pass_work(layout, pass).flop;
  pass.rows[0].sample = false;
  pass.rows[0].embed = Embed::mean;
  for (const bool is_last : {false, true}) {
    pass.rows[0].embeds = is_last;
    EXPECT_EQ(logits_wanted(pass.rows[0]), 4);
    EXPECT_DOUBLE_EQ(pass_work(layout, pass).flop, with_logits - 2 * 100 * 8);
  }
  pass.rows.push_back(row(0, 4, 1));  // beside one that wants logits
  pass.batch_tokens = {5, 0};
  EXPECT_GT(pass_work(layout, pass).flop, with_logits);
}

TEST(TaskWorkTest, LayersWithAWindowSeeNoMoreThanIt) {
  StageLayout layout = one_stage();
  const double products = 2 * (3 * kLayerElements + 100 * 8);
  struct {
    std::int32_t position, tokens;
    double pairs;        // of the layer that sees all, and of each of the others
    double windowed;     // ... with a window of 4
    std::uint64_t read;  // tokens of the cache
    std::uint64_t in_sight;
  } const cases[] = {
      {9, 1, 10, 4, 10, 4},
      {2, 6, 3 + 4 + 5 + 6 + 7 + 8, 3 + 5 * 4, 8, 8},
      {7, 2, 8 + 9, 2 * 4, 9, 5},
      {0, 4, 1 + 2 + 3 + 4, 1 + 2 + 3 + 4, 4, 4},
      {0, 5, 1 + 2 + 3 + 4 + 5, 1 + 2 + 3 + 4 + 4, 5, 5},
  };
  for (const auto& one : cases) {
    Pass pass;
    pass.rows = {row(0, one.position, one.tokens)};
    pass.batch_tokens = {one.tokens, 0};
    for (const bool on_host : {false, true}) {
      layout.config.policy.cache =
          on_host ? offload::Shares{0, 100, 0} : offload::Shares{100, 0, 0};
      layout.config.policy.cpu_cache_compute = on_host;
      layout.model.attention.windows = {4, 0, 4};
      const ComputeWork work = pass_work(
          layout, pass, [on_host](std::int32_t) { return on_host ? Tier::host : Tier::device; });
      const double flop = 4.0 * 8 * (one.pairs + 2 * one.windowed);
      const std::uint64_t bytes = 2U * 8 * 4 * (one.read + 2 * one.in_sight);
      EXPECT_DOUBLE_EQ(
          on_host ? work.host_flop : work.flop - one.tokens * 2 * 3 * kLayerElements - 2 * 100 * 8,
          flop);
      EXPECT_EQ(on_host ? work.host_kv_bytes : work.kv_bytes, bytes);
    }
  }
  // A window that no sequence fills is none.
  Pass pass;
  pass.rows = {row(0, 9, 1)};
  pass.batch_tokens = {1, 0};
  layout.config.policy = {};
  layout.model.attention.windows = {64, 100, 0};
  EXPECT_DOUBLE_EQ(pass_work(layout, pass).flop, products + 4.0 * 8 * 3 * 10);
}

/// With a quarter of the values: all keys are read, and of each token of the answer a few values.
TEST(TaskWorkTest, TokensOfAnswersReadFewValues) {
  StageLayout layout = one_stage();
  layout.config.policy.attn_sparsity = 0.25;
  const double products = 2 * (3 * kLayerElements + 100 * 8);
  struct {
    std::int32_t position, tokens, answer_begin, window;
    double pairs;          // with keys and with values together, of a layer
    std::uint64_t cached;  // keys and values that are read, of a layer
  } const cases[] = {
      {9, 1, 10, 0, 10 + 10, 10 + 10},  // of a prompt
      {9, 1, 9, 0, 10 + 4, 10 + 4},     // 3 of 9 old ones, and its own
      {9, 1, 0, 4, 4 + 2, 4 + 2},       // 1 of 3
      {8, 3, 9, 0, 9 + 10 + 11 + 9 + 4 + 4, 11 + 11},
      {0, 1, 0, 0, 1 + 1, 1 + 1},
      {1, 2, 1, 0, 2 + 3 + 2 + 2, 3 + 3},
  };
  for (const auto& one : cases) {
    Pass pass;
    pass.rows = {row(0, one.position, one.tokens)};
    pass.rows[0].sampling.answer_begin = one.answer_begin;
    pass.batch_tokens = {one.tokens, 0};
    layout.model.attention.windows = {one.window, one.window, one.window};
    const ComputeWork work = pass_work(layout, pass);
    EXPECT_DOUBLE_EQ(work.flop - products - (one.tokens - 1) * 2 * 3 * kLayerElements,
                     2.0 * 8 * 3 * one.pairs);
    EXPECT_EQ(work.kv_bytes, 3U * 8 * 4 * one.cached);
  }
}

/// A GPU batch with tokens of prompts and of answers has two tables.
TEST(TaskWorkTest, SparseAttentionUploadsATableForEachWay) {
  StageLayout layout = one_stage();
  layout.config.policy.attn_sparsity = 0.25;
  const auto groups = placed(layout);
  ScheduleShape shape = schedule_shape(layout, groups);
  const StageWork stage = stage_work(layout, groups);
  std::vector<Task> tasks;
  for (const auto& [answer_begin, tables, rows] :
       {std::tuple{0, 1U, 1U}, std::tuple{9, 2U, 2U}, std::tuple{20, 1U, 1U}}) {
    Pass pass;
    pass.rows = {row(0, 8, 3)};
    pass.rows[0].sampling.answer_begin = answer_begin;
    pass.batch_tokens = {3, 0};
    set_pass(shape, layout, pass, on_device);
    build_schedule(shape, tasks);
    for (const Task& task : tasks) {
      if (task.kind != TaskKind::upload_tables) continue;
      EXPECT_EQ(work_of(task, shape, stage).host_to_device,
                tables * stage.table_bytes + rows * stage.table_row_bytes);
    }
  }
}

/// Of a sequence of the host 100 tokens are in 7 pages, and 25 of them give a value.
TEST(TaskWorkTest, KeysAloneAreFetchedWhereTheHostIsPinned) {
  StageLayout layout = one_stage();
  layout.batching.max_sequence_tokens = 1000;
  layout.config.policy.cache = {0, 100, 0};
  layout.config.policy.attn_sparsity = 0.25;
  for (const bool pinned : {true, false}) {
    layout.config.policy.pin_weight = pinned;
    const auto groups = placed(layout);
    ScheduleShape shape = schedule_shape(layout, groups);
    const StageWork stage = stage_work(layout, groups);
    Pass pass;
    pass.rows = {row(0, 100, 1)};
    pass.rows[0].sampling.answer_begin = 90;
    pass.batch_tokens = {1, 0};
    set_pass(shape, layout, pass, [](std::int32_t) { return Tier::host; });
    std::vector<Task> tasks;
    build_schedule(shape, tasks);
    std::uint64_t fetched = 0;
    std::uint64_t read = 0;
    for (const Task& task : tasks) {
      const TaskWork work = work_of(task, shape, stage);
      if (task.kind == TaskKind::fetch_cache) fetched += work.host_to_device;
      if (task.kind == TaskKind::attend) read += work.host_to_device;
    }
    const std::uint64_t pages = 3 * 7 * stage.page_bytes;  // of three layers
    EXPECT_EQ(fetched, pinned ? pages / 2 : pages);
    EXPECT_EQ(read, pinned ? 3 * 25 * stage.token_bytes / 2 : 0);
  }
}

TEST(TaskWorkTest, OnlyPagesInSightAreReadAndFetched) {
  StageLayout layout = one_stage();
  layout.config.policy.cache = {0, 0, 100};
  layout.batching.max_sequence_tokens = 1000;
  layout.model.attention.windows = {0, 100, 0};
  const auto groups = placed(layout);
  ScheduleShape shape = schedule_shape(layout, groups);
  const StageWork stage = stage_work(layout, groups);
  Pass pass;
  pass.rows = {row(0, 500, 1)};
  pass.batch_tokens = {1, 0};
  set_pass(shape, layout, pass, [](std::int32_t) { return Tier::disk; });
  std::vector<Task> tasks;
  build_schedule(shape, tasks);
  int seen = 0;
  for (const Task& task : tasks) {
    const TaskWork work = work_of(task, shape, stage);
    const bool has_window = task.layer == 1;  // tokens 401 to 500 lie in pages 25 to 31
    if (task.kind == TaskKind::read_cache) {
      EXPECT_EQ(work.disk_read, (has_window ? 6U : 31U) * stage.file_page_bytes);
      ++seen;
    }
    if (task.kind == TaskKind::fetch_cache) {
      EXPECT_EQ(work.host_to_device, (has_window ? 7U : 32U) * stage.page_bytes);
      ++seen;
    }
    if (task.kind == TaskKind::upload_tables) {
      EXPECT_EQ(work.host_to_device, 2U * 4 * (3 * 2 + 63)) << "one for each kind of layer";
      ++seen;
    }
  }
  EXPECT_EQ(seen, 3 + 3 + 1);
}

TEST(TaskWorkTest, WhatTheHostAttendsIsTheHosts) {
  StageLayout layout = one_stage();
  layout.config.policy.cache_dtype = DType::f16;
  layout.config.policy.cache = {50, 50, 0};
  layout.config.policy.cpu_cache_compute = true;
  Pass pass;
  pass.rows = {row(0, 9, 1), row(1, 19, 1)};
  pass.batch_tokens = {1, 1};
  const ComputeWork work = pass_work(
      layout, pass, [](std::int32_t slot) { return slot == 1 ? Tier::host : Tier::device; });
  EXPECT_EQ(work.kv_bytes, 2U * 3 * 8 * 2 * 10);
  EXPECT_EQ(work.host_kv_bytes, 2U * 3 * 8 * 2 * 20);
  EXPECT_DOUBLE_EQ(work.host_flop, 4.0 * 8 * 3 * 20);
}

TEST(TaskWorkTest, AStageInTheMiddleHasNoEmbeddingAndNoHead) {
  StageLayout layout = one_stage();
  layout.stage = 1;
  layout.stages = 3;
  Pass pass;
  pass.rows = {row(0, 0, 1)};
  pass.batch_tokens = {1, 0};
  EXPECT_DOUBLE_EQ(pass_work(layout, pass).flop, 2 * 3 * kLayerElements + 4.0 * 8 * 3);
}

}  // namespace
}  // namespace sluice::stage
