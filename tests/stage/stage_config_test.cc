#include "stage/stage_config.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

TEST(StageConfigTest, GapsOverlapsAndWrongTotalsAreRefused) {
  std::vector<StageConfig> stages(2);
  stages[0].first_layer = 0;
  stages[0].layers = 2;
  stages[1].first_layer = 3;
  stages[1].layers = 1;
  EXPECT_THROW(check_layers(stages, 4), ConfigError);  // gap
  stages[1].first_layer = 1;
  EXPECT_THROW(check_layers(stages, 4), ConfigError);  // overlap
  stages[1].first_layer = 2;
  EXPECT_THROW(check_layers(stages, 4), ConfigError);  // one missing at the end
  stages[1].layers = 0;
  EXPECT_THROW(check_layers(stages, 2), ConfigError);  // empty stage
}

TEST(StageConfigTest, TheMlpCannotWaitWhereItReadsWhatAttentionReads) {
  std::vector<StageConfig> stages(2);
  stages[1].policy.mlp_once = true;
  DecoderConfig model;
  EXPECT_NO_THROW(check_policies(stages, model));
  for (const Residual residual : {Residual::parallel, Residual::parallel_one_norm}) {
    model.residual = residual;
    EXPECT_THROW(check_policies(stages, model), ConfigError);
  }
  stages[1].policy.mlp_once = false;
  EXPECT_NO_THROW(check_policies(stages, model));
}

TEST(StageConfigTest, MoreMicroBatchesThanStagesByDefault) {
  const Batching batching;
  EXPECT_EQ(batching.micro_batches_for(1), 1);
  EXPECT_EQ(batching.micro_batches_for(2), 3);
  EXPECT_EQ(batching.micro_batches_for(4), 5);
}

TEST(StageConfigTest, SlotsAreAllSequencesUnderWay) {
  Batching batching;
  batching.gpu_batch_size = 8;
  batching.num_gpu_batches = 1024;
  EXPECT_EQ(batching.slots(1), 8192);
  EXPECT_EQ(batching.slots(3), 4 * 8192);
  batching.micro_batches = 100;
  EXPECT_EQ(batching.slots(3), 819'200);
}

TEST(StageConfigTest, MoreSlotsThanCanBeCountedAreRefusedWithTheirKeys) {
  Batching batching;
  batching.micro_batches = 1;
  batching.num_gpu_batches = 1000;
  batching.gpu_batch_size = 1000;
  EXPECT_EQ(batching.slots(1), kMaxSlots);
  // The largest product that any configuration can ask for overflows 32 bits and comes to 0.
  for (const std::int32_t size : {1001, 65536}) {
    batching.gpu_batch_size = size;
    batching.num_gpu_batches = size == 65536 ? kMaxGpuBatches : 1000;
    batching.micro_batches = size == 65536 ? 4096 : 1;
    try {
      batching.slots(1);
      FAIL() << "no error for " << size;
    } catch (const ConfigError& error) {
      const std::string sentence = error.what();
      EXPECT_NE(sentence.find("GPU batches of " + std::to_string(size)), std::string::npos);
      for (const char* key : {"micro_batches", "num_gpu_batches", "gpu_batch_size"}) {
        EXPECT_NE(sentence.find(std::string("batching.") + key), std::string::npos) << sentence;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::stage
