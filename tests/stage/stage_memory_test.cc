#include "stage/stage_memory.h"

#include <gtest/gtest.h>

namespace sluice::stage {
namespace {

TEST(WorkspaceBytes, LogitsHaveNoPlaceOnTheHostWhereTheDeviceSamples) {
  StageLayout layout;
  layout.model.vocabulary = 50272;
  layout.batching.gpu_batch_size = 32;
  layout.batching.max_sequence_tokens = 100;
  const WorkspaceBytes by_host = workspace_bytes(layout);
  layout.device_samples = true;
  const WorkspaceBytes by_device = workspace_bytes(layout);
  // Two sets of 32 rows of parameters, edits and results, instead of two of logits.
  const std::uint64_t set =
      32U * (sizeof(kernels::SampleRow) + sizeof(kernels::SampledRow)) + 32U * 100 * 8;
  EXPECT_EQ(by_host.host - by_device.host, 2U * 32 * 50272 * 4);
  EXPECT_EQ(by_device.control - by_host.control, 2 * set);
  EXPECT_EQ(by_device.device - by_host.device, set);
}

TEST(KvShape, HasTheWindowsOfTheStagesOwnLayers) {
  StageLayout layout;
  layout.model.layers = 5;
  layout.config.first_layer = 1;
  layout.config.layers = 3;
  EXPECT_TRUE(kv_shape(layout).windows.empty());
  layout.model.attention.windows = {0, 7, 0, 9, 11};
  EXPECT_EQ(kv_shape(layout).windows, (std::vector<std::int32_t>{7, 0, 9}));
}

}  // namespace
}  // namespace sluice::stage
