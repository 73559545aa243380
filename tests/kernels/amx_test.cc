#include "kernels/cpu/amx.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/cpu/linear_quantized.h"

namespace sluice::kernels {
namespace {

/// Exits with 0 where tiles are used, with 1 where not. In a process of its own: the environment
/// is read once.
[[noreturn]] void exit_with_answer(const char* value) {
  if (value == nullptr) {
    unsetenv("SLUICE_NO_AMX");
  } else {
    setenv("SLUICE_NO_AMX", value, 1);
  }
  std::exit(amx_available() ? 0 : 1);
}

class AmxDeathTest : public testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(AmxDeathTest, TheEnvironmentSwitchesTilesOff) {
  EXPECT_EXIT(exit_with_answer("1"), testing::ExitedWithCode(1), "");
  EXPECT_EXIT(exit_with_answer(""), testing::ExitedWithCode(1), "");
}

TEST_F(AmxDeathTest, ZeroAndNothingLeaveItToTheMachine) {
  if (!amx_available()) GTEST_SKIP() << "this machine has no tiles, or SLUICE_NO_AMX is set";
  EXPECT_EXIT(exit_with_answer("0"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(exit_with_answer(nullptr), testing::ExitedWithCode(0), "");
}

TEST(Amx, TheFastestProductIsThatOfTilesThenOfBytesThenOfPairs) {
  const QuantizedProduct expected = amx_available()    ? tile_product()
                                    : vnni_available() ? byte_product()
                                    : avx2_available() ? pair_product()
                                                       : portable_product();
  EXPECT_EQ(best_product().sum, expected.sum);
}

}  // namespace
}  // namespace sluice::kernels
