// The split of layers over stages: against every split there is, where those can be counted.
#include "stage/layer_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

std::vector<std::int32_t> split(std::int32_t stages, std::int32_t layers,
                                const DecodeWeights& weights) {
  std::vector<StageConfig> configs(static_cast<std::size_t>(stages));
  split_layers(configs, layers, weights);
  check_layers(configs, layers);  // all layers, once, in order
  std::vector<std::int32_t> counts;
  for (const StageConfig& config : configs) counts.push_back(config.layers);
  return counts;
}

std::uint64_t heaviest(const std::vector<std::int32_t>& counts, const DecodeWeights& weights) {
  std::uint64_t most = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    most = std::max(most, static_cast<std::uint64_t>(counts[s]) * weights.layer +
                              (s + 1 == counts.size() ? weights.head : 0));
  }
  return most;
}

/// Of all splits of `layers` over the stages from `stage` on.
std::uint64_t lightest(std::size_t stage, std::int32_t layers, std::vector<std::int32_t>& counts,
                       const DecodeWeights& weights) {
  if (stage + 1 == counts.size()) {
    counts[stage] = layers;
    return heaviest(counts, weights);
  }
  std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
  const auto others = static_cast<std::int32_t>(counts.size() - stage) - 1;
  for (std::int32_t own = 1; own <= layers - others; ++own) {
    counts[stage] = own;
    best = std::min(best, lightest(stage + 1, layers - own, counts, weights));
  }
  return best;
}

TEST(LayerSplitTest, NoOtherSplitHasALighterHeaviestStage) {
  for (std::int32_t stages = 1; stages <= 5; ++stages) {
    for (std::int32_t layers = stages; layers <= 13; ++layers) {
      for (const std::uint64_t head : {0, 1, 4, 10, 15, 23, 1000}) {
        const DecodeWeights weights{10, head};
        std::vector<std::int32_t> counts(static_cast<std::size_t>(stages));
        EXPECT_EQ(heaviest(split(stages, layers, weights), weights),
                  lightest(0, layers, counts, weights))
            << stages << " stages, " << layers << " layers, head " << head;
      }
    }
  }
}

TEST(LayerSplitTest, EarlierStagesNeverHaveFewerLayers) {
  for (std::int32_t stages = 1; stages <= 9; ++stages) {
    for (std::int32_t layers = stages; layers <= 40; ++layers) {
      for (const std::uint64_t head : {0, 7, 20, 55}) {
        const std::vector<std::int32_t> counts = split(stages, layers, {10, head});
        EXPECT_TRUE(std::ranges::is_sorted(counts, std::greater<>())) << stages << " " << layers;
        EXPECT_GE(counts.back(), 1);
        EXPECT_LE(counts.front() - (stages > 1 ? counts[counts.size() - 2] : counts[0]), 1)
            << "only the last stage differs by more than the remainder";
      }
    }
  }
}

TEST(LayerSplitTest, WithoutAHeadLayersAreSplitEvenlyAndTheFirstStagesTakeTheRemainder) {
  EXPECT_EQ(split(4, 10, {1, 0}), (std::vector<std::int32_t>{3, 3, 2, 2}));
}

TEST(LayerSplitTest, TheOutputHeadOfARealModelIsWorthLayers) {
  DecoderConfig model;  // OPT-1.3B
  model.layers = 24;
  model.hidden = model.embedding.width = 2048;
  model.attention = {32, 32, 64, true, true, 0.125F};
  model.mlp.width = 8192;
  model.vocabulary = 50272;
  model.max_positions = 2048;
  const DecodeWeights weights = decode_weights(model);
  EXPECT_EQ(weights.layer, 50358272U);
  EXPECT_EQ(weights.head, 50272U * 2048U + 2U * 2048U);
  EXPECT_EQ(split(2, 24, weights), (std::vector<std::int32_t>{13, 11}));
  EXPECT_EQ(split(4, 24, weights), (std::vector<std::int32_t>{7, 7, 6, 4}));
}

TEST(LayerSplitTest, MoreStagesThanLayersAreRefusedWithBothNumbers) {
  std::vector<StageConfig> stages(5);
  try {
    split_layers(stages, 4, {});
    FAIL() << "no error";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.status(), ExitStatus::usage);
    EXPECT_NE(std::string(error.what()).find("5 stages"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("only 4 layers"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::stage
