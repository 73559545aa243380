#include "comm/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "kernels/device/error.h"

namespace sluice::comm {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Launch launch_of(const Variables& variables) {
  return find_launch([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal_of(const std::function<void()>& check) {
  try {
    check();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(none)";
}

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

TEST(Launch, ALoneProcessNeedsNoMpi) {
  for (const Variables& variables : std::vector<Variables>{
           {},
           {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}},
           // Shells that Slurm gives: of an interactive step, with and without PMIx; of sbatch and
           // salloc, which know how many tasks the job may have.
           {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_NODELIST", "n1"}},
           {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}, {"PMIX_RANK", "0"}},
           {{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "7"}},
           {{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}},
           {{"FLUX_JOB_SIZE", "1"}, {"FLUX_TASK_RANK", "0"}},
           {{"MV2_COMM_WORLD_SIZE", "1"}, {"MV2_COMM_WORLD_RANK", "0"}},
           // One rank of mpirun in a Slurm job of two hosts.
           {{"OMPI_COMM_WORLD_SIZE", "1"},
            {"OMPI_COMM_WORLD_RANK", "0"},
            {"SLURM_STEP_NUM_TASKS", "2"}},
           {{"SLURM_STEP_NUM_TASKS", "many"}}}) {
    EXPECT_TRUE(launch_of(variables).alone()) << testing::PrintToString(variables);
  }
}

TEST(Launch, OpenMpiJoinsWhatItsLaunchersStarted) {
  const auto expect = [](const Variables& variables, int processes, int rank) {
    const Launch launch = launch_of(variables);
    EXPECT_EQ(launch.processes, processes) << launch.launcher;
    EXPECT_EQ(launch.rank, rank) << launch.launcher;
    EXPECT_EQ(refusal_of([&] { check_launch(launch); }), "(none)");
    EXPECT_EQ(refusal_of([&] { check_joined(launch, processes > 0 ? processes : 4); }), "(none)");
  };
  expect({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}, {"PMIX_RANK", "3"}}, 4, 3);
  // Over two hosts of a Slurm job: srun started mpirun's helpers.
  expect({{"OMPI_COMM_WORLD_SIZE", "8"},
          {"OMPI_COMM_WORLD_RANK", "5"},
          {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_PROCID", "1"}},
         8, 5);
  expect({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "2"}, {"PMIX_RANK", "2"}}, 4, 2);
  expect({{"JSM_NAMESPACE_SIZE", "6"}, {"JSM_NAMESPACE_RANK", "1"}, {"PMIX_RANK", "1"}}, 6, 1);
  expect({{"FLUX_JOB_SIZE", "2"},
          {"FLUX_TASK_RANK", "1"},
          {"PMI_RANK", "1"},
          {"PMI_SIZE", "2"},
          {"FLUX_PMI_LIBRARY_PATH", "/usr/lib/flux/libpmi.so"}},
         2, 1);
  expect({{"PMIX_RANK", "1"}}, 0, 1);  // some launcher with PMIx, which says no size
}

TEST(Launch, TellsWhetherAllProcessesAreOnThisHost) {
  const auto one_host = [](const Variables& variables) { return launch_of(variables).one_host; };
  const auto mpirun = [](const char* all, const char* here) {
    return Variables{{"OMPI_COMM_WORLD_RANK", "3"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                     {"OMPI_COMM_WORLD_SIZE", all},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", here}};
  };
  EXPECT_TRUE(one_host(mpirun("4", "4")));
  EXPECT_FALSE(one_host(mpirun("4", "2")));
  EXPECT_EQ(launch_of(mpirun("4", "2")).local_rank, 1);
  const auto srun = [](const char* hosts) {
    return Variables{{"SLURM_STEP_NUM_TASKS", "4"},
                     {"SLURM_PROCID", "3"},
                     {"SLURM_LOCALID", "2"},
                     {"SLURM_STEP_NUM_NODES", hosts},
                     {"PMIX_RANK", "3"}};
  };
  EXPECT_TRUE(one_host(srun("1")));
  EXPECT_FALSE(one_host(srun("2")));
  EXPECT_EQ(launch_of(srun("2")).local_rank, 2);
  // No launcher says so: a job of several hosts must not lose its network.
  EXPECT_FALSE(one_host({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}}));
  EXPECT_FALSE(one_host({{"SLURM_STEP_NUM_TASKS", "4"}, {"PMIX_RANK", "0"}}));
  EXPECT_FALSE(one_host({{"PMIX_RANK", "1"}}));
  EXPECT_FALSE(one_host({{"JSM_NAMESPACE_SIZE", "6"}, {"JSM_NAMESPACE_RANK", "1"}}));
}

TEST(Launch, OtherLaunchersAreRefusedByName) {
  const auto expect = [](const Variables& variables, const char* who, const char* sign) {
    const Launch launch = launch_of(variables);
    EXPECT_EQ(launch.rank, 1) << who;
    const std::string refusal = refusal_of([&] { check_launch(launch); });
    EXPECT_THAT(refusal, testing::StartsWith(who));
    EXPECT_THAT(refusal, HasSubstr(sign));
    EXPECT_THAT(refusal, HasSubstr("srun --mpi=pmix"));
  };
  expect({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"MPI_LOCALNRANKS", "2"}},
         "the launcher of another MPI (mpiexec of MPICH or Intel MPI, srun --mpi=pmi2) started 2",
         "PMI_RANK");
  expect({{"PMI_RANK", "1"}}, "the launcher of another MPI", "several processes");
  // mpiexec of MPICH in a Slurm step with PMIx.
  expect({{"PMI_SIZE", "4"}, {"PMI_RANK", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "0"}},
         "the launcher of another MPI", "started 4 processes");
  expect({{"MV2_COMM_WORLD_SIZE", "2"}, {"MV2_COMM_WORLD_RANK", "1"}}, "MVAPICH's launcher",
         "MV2_COMM_WORLD_RANK");
  expect({{"MVP_COMM_WORLD_SIZE", "2"}, {"MVP_COMM_WORLD_RANK", "1"}}, "MVAPICH's launcher",
         "MVP_COMM_WORLD_RANK");
  expect({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "1"}}, "srun started 4 processes",
         "SLURM_STEP_NUM_TASKS");
  expect({{"FLUX_JOB_SIZE", "2"}, {"FLUX_TASK_RANK", "1"}}, "flux run", "FLUX_TASK_RANK");
  expect({{"JSM_NAMESPACE_SIZE", "2"}, {"JSM_NAMESPACE_RANK", "1"}}, "jsrun", "JSM_NAMESPACE_RANK");
  expect({{"PALS_RANKID", "1"}, {"PMI_SIZE", "2"}, {"PMI_RANK", "1"}}, "the mpiexec of PALS",
         "PALS_RANKID");
}

TEST(Launch, ProcessesThatMpiDidNotJoinAreRefused) {
  const auto refused = [](const Variables& variables, int world_size) {
    return refusal_of([&] { check_joined(launch_of(variables), world_size); });
  };
  EXPECT_THAT(refused({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "0"}}, 1),
              HasSubstr("Open MPI's mpirun started 4 processes, but MPI joined 1"));
  EXPECT_NE(refused({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "0"}}, 2), "(none)");
  EXPECT_NE(refused({{"PMIX_RANK", "1"}}, 1), "(none)");
  EXPECT_EQ(refused({{"PMIX_RANK", "0"}}, 1), "(none)");
}

}  // namespace
}  // namespace sluice::comm
