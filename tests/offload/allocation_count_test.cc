#include "tests/support/allocation_count.h"

#include <gtest/gtest.h>

#include <memory>

namespace sluice::support {

TEST(AllocationCount, CountsWhatIsAllocated) {
  const std::int64_t before = allocation_count();
  const auto number = std::make_unique<int>(5);
  EXPECT_EQ(allocation_count() - before, *number - 4);
}

}  // namespace sluice::support
