#include "comm/launch_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

TEST(OptionsCheck, RefusesWhatCannotWork) {
  using std::chrono::milliseconds;
  constexpr std::size_t kMost = std::size_t{1} << 30;
  EXPECT_NO_THROW(check_options({}));
  EXPECT_NO_THROW(check_options({milliseconds(500), milliseconds(1000), kMost}));
  EXPECT_THROW(check_options({milliseconds(500), milliseconds(999), 1}), ConfigError);
  EXPECT_THROW(check_options({milliseconds(0), milliseconds(999), 1}), ConfigError);
  EXPECT_THROW(check_options({milliseconds(500), milliseconds(1000), 0}), ConfigError);
  EXPECT_THROW(check_options({milliseconds(500), milliseconds(1000), kMost + 1}), ConfigError);
}

TEST(LaunchCheck, LetsEveryWorkingLaunchPass) {
  EXPECT_NO_THROW(check_launch(1, nullptr, nullptr));  // ./sluice
  EXPECT_NO_THROW(check_launch(4, "4", nullptr));      // mpirun
  EXPECT_NO_THROW(check_launch(8, "8", "2"));          // mpirun over two hosts of an sbatch job
  EXPECT_NO_THROW(check_launch(1, "1", "2"));          // mpirun -n 1 there
  EXPECT_NO_THROW(check_launch(4, nullptr, "4"));      // srun --mpi=pmix
  EXPECT_NO_THROW(check_launch(1, nullptr, "1"));      // a step of one task
  EXPECT_NO_THROW(check_launch(1, "", "many"));        // nothing to be told
}

void expect_refused(int size, const char* ompi_size, const char* slurm_tasks) {
  try {
    check_launch(size, ompi_size, slurm_tasks);
    FAIL() << "a wrong launch passed";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("srun --mpi=pmix"));
  }
}

TEST(LaunchCheck, NamesTheRightCommandWhereRanksDoNotSeeEachOther) {
  expect_refused(1, nullptr, "4");  // srun
  expect_refused(1, "4", nullptr);  // the mpirun of another MPI
}

}  // namespace
}  // namespace sluice::comm
