#include "comm/start_watch.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;

TEST(StartWatch, EndsAProcessThatWaitsForEver) {
  EXPECT_EXIT(
      {
        const StartWatch watch(0, milliseconds(50));
        while (true) pause();
      },
      testing::ExitedWithCode(5),
      "^sluice: rank 0: the ranks have not reached each other for 0.05 s, so the job ends: "
      "OMPI_MCA_btl_tcp_if_include is .*; set it to the interface or network that leads to all "
      "hosts \\(host .* has .*\\)\\.\n$");
}

TEST(StartWatch, IsSilentOnceTheRanksHaveMet) {
  for (const int rank : {0, 1}) {
    testing::internal::CaptureStderr();
    { const StartWatch watch(rank, std::chrono::hours(1)); }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  }
}

}  // namespace
}  // namespace sluice::comm
