#include "stage/pass_buffers.h"

#include <gtest/gtest.h>

#include <set>

namespace sluice::stage {
namespace {

TEST(PassBuffers, NeighbouringPassesShareNoneAndTheNextButOneHasTheSame) {
  const PassBuffers buffers(3);
  EXPECT_EQ(buffers.count(), 6);
  std::set<std::size_t> used;
  for (std::int32_t g = 0; g < 3; ++g) {
    used.insert(buffers.of(4, g));
    used.insert(buffers.of(5, g));
    EXPECT_EQ(buffers.of(6, g), buffers.of(4, g));
  }
  EXPECT_EQ(used.size(), 6U);
  EXPECT_LT(*used.rbegin(), 6U);
}

TEST(PerPass, KeepsOneForEachOfTwoPasses) {
  PerPass<int> numbers;
  EXPECT_EQ(numbers[0], 0) << "they begin as their type does";
  numbers[6] = 1;
  numbers[7] = 2;
  EXPECT_EQ(numbers[8], 1);
  EXPECT_EQ(numbers[std::int64_t{1} << 40], 1);
  EXPECT_EQ(numbers[9], 2);
  int sum = 0;
  for (const int number : numbers) sum += number;
  EXPECT_EQ(sum, 3);
}

}  // namespace
}  // namespace sluice::stage
