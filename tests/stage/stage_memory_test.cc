#include "stage/stage_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "tests/support/scratch_folder.h"

namespace sluice::stage {
namespace {

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

class CgroupRoom : public testing::Test {
 protected:
  void write(const char* name, const char* text) { std::ofstream(folder_.path() / name) << text; }
  std::uint64_t room() const { return cgroup_room(folder_.path()); }

  support::ScratchFolder folder_;
};

TEST_F(CgroupRoom, PageCacheCountsAsFree) {
  write("memory.max", "1000\n");
  write("memory.current", "900\n");
  EXPECT_EQ(room(), 100U);
  write("memory.stat",
        "anon 200\nfile 700\ninactive_anon 200\nactive_anon 0\ninactive_file 500\n"
        "active_file 150\nworkingset_refault_file 77\n");
  EXPECT_EQ(room(), 750U);
}

TEST_F(CgroupRoom, OfVersionOneTheChildrenCountToo) {
  write("memory.limit_in_bytes", "1000\n");
  write("memory.usage_in_bytes", "900\n");
  write("memory.stat",
        "cache 9\ninactive_file 5\nactive_file 4\nhierarchical_memory_limit 1000\n"
        "total_inactive_file 400\ntotal_active_file 200\n");
  EXPECT_EQ(room(), 700U);
}

TEST_F(CgroupRoom, ThereIsNoneBeyondTheLimitAndNoMoreThanIt) {
  write("memory.max", "1000\n");
  write("memory.current", "1100\n");
  EXPECT_EQ(room(), 0U);
  write("memory.stat", "inactive_file 5000\n");  // the files are not read at one moment
  EXPECT_EQ(room(), 1000U);
}

TEST_F(CgroupRoom, WithoutALimitThereIsNoEnd) {
  EXPECT_EQ(room(), kNoLimit);
  write("memory.max", "max\n");
  write("memory.current", "900\n");
  EXPECT_EQ(room(), kNoLimit);
}

TEST(WorkspaceBytes, LogitsHaveNoPlaceOnTheHostWhereTheDeviceSamples) {
  StageLayout layout;
  layout.model.vocabulary = 50272;
  layout.batching.gpu_batch_size = 32;
  layout.batching.max_sequence_tokens = 100;
  const WorkspaceBytes by_host = workspace_bytes(layout);
  layout.device_samples = true;
  const WorkspaceBytes by_device = workspace_bytes(layout);
  // Two sets of 32 rows of parameters, histories and results, instead of two of logits.
  const std::uint64_t set =
      32U * (sizeof(kernels::SampleRow) + sizeof(kernels::SampledRow)) + 32U * 100 * 4;
  EXPECT_EQ(by_host.host - by_device.host, 2U * 32 * 50272 * 4 - 2 * set);
  EXPECT_EQ(by_device.device - by_host.device, set);
}

TEST(AvailableMemory, IsKnown) {
  EXPECT_GT(available_memory(), 0U);
  EXPECT_LT(available_memory(), kNoLimit);
}

}  // namespace
}  // namespace sluice::stage
