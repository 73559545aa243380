#include "launcher/config/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

RunConfig config_of(const std::string& shard, const std::string& output = "out.jsonl") {
  RunConfig config;
  config.job.input = "in.jsonl";
  config.job.output = output;
  config.job.shard = shard;
  return config;
}

/// Environment variables of a Slurm array task, for as long as it lives.
class SlurmTask {
 public:
  SlurmTask(const char* task, const char* first, const char* last, const char* count) {
    ::setenv("SLURM_ARRAY_TASK_ID", task, 1);
    ::setenv("SLURM_ARRAY_TASK_MIN", first, 1);
    ::setenv("SLURM_ARRAY_TASK_MAX", last, 1);
    ::setenv("SLURM_ARRAY_TASK_COUNT", count, 1);
  }
  ~SlurmTask() {
    for (const char* name : {"ID", "MIN", "MAX", "COUNT"}) {
      ::unsetenv((std::string("SLURM_ARRAY_TASK_") + name).c_str());
    }
  }
  SlurmTask(const SlurmTask&) = delete;
  SlurmTask& operator=(const SlurmTask&) = delete;
};

std::string refusal_of(const RunConfig& config) {
  try {
    of_shard(config);
  } catch (const ConfigError& problem) {
    return problem.what();
  }
  return "";
}

TEST(Shard, EveryRowIsInOneShard) {
  for (const std::int64_t count : {1, 2, 5}) {
    for (std::int64_t row = 0; row < 12; ++row) {
      int shards = 0;
      for (std::int64_t index = 0; index < count; ++index) {
        shards += Shard{index, count}.has(row) ? 1 : 0;
      }
      EXPECT_EQ(shards, 1);
    }
  }
}

TEST(Shard, IsCountedFromZero) {
  EXPECT_EQ(parse_shard("3/4")->index, 3);
  EXPECT_EQ(parse_shard("0/1")->count, 1);
  for (const std::string bad : {"4/4", "1/0", "/", "1", "1/", "/2", "-1/2", "1/2/3", " 1/2", "a/b",
                                "0/9999999", "99999999999999999999/4"}) {
    EXPECT_FALSE(parse_shard(bad)) << bad;
    EXPECT_THAT(shard_problem(config_of(bad)), HasSubstr("0/4 to 3/4")) << bad;
  }
  EXPECT_EQ(shard_problem(config_of("3/4")), "");
  EXPECT_EQ(shard_problem(config_of("slurm")), "");
}

TEST(Shard, NamesItsFiles) {
  RunConfig config = config_of("3/16", "a.{shard}/b.{shard}.jsonl");
  config.report.file = "r.{shard}.json";
  const RunConfig named = of_shard(config);
  EXPECT_EQ(named.job.output, "a.03/b.03.jsonl");
  EXPECT_EQ(named.report.file, "r.03.json");
  EXPECT_EQ(of_shard(config_of("3/10", "{shard}")).job.output, "3");
  EXPECT_EQ(of_shard(config_of("", "plain")).job.output, "plain");
  EXPECT_THAT(shard_problem(config_of("", "a.{shard}")), HasSubstr("there is no --shard"));
  config.job.input.clear();
  EXPECT_THAT(shard_problem(config), HasSubstr("--input"));
}

TEST(Shard, ComesFromAnArrayTaskOnlyWhereAsked) {
  {
    const SlurmTask task("2", "0", "7", "8");
    EXPECT_EQ(of_shard(config_of("slurm", "o.{shard}")).job.output, "o.2");
    EXPECT_EQ(of_shard(config_of("slurm")).job.shard, "2/8");
    EXPECT_EQ(of_shard(config_of("")).job.shard, "");
    EXPECT_EQ(of_shard(config_of("1/3")).job.shard, "1/3");
  }
  EXPECT_THAT(refusal_of(config_of("slurm")), HasSubstr("SLURM_ARRAY_TASK_ID"));
}

// A part of an array that is submitted again must not take other rows than it had.
TEST(Shard, OfAnArrayWithOtherTasksIsRefused) {
  const char* const wrong[][4] = {{"3", "3", "3", "1"}, {"1", "1", "8", "8"}, {"4", "0", "6", "4"}};
  for (const auto& [id, first, last, count] : wrong) {
    const SlurmTask task(id, first, last, count);
    EXPECT_THAT(refusal_of(config_of("slurm")), HasSubstr("tasks 0 to n-1")) << id;
  }
  const SlurmTask task("x", "0", "7", "8");
  EXPECT_THAT(refusal_of(config_of("slurm")), HasSubstr("'x'"));
}

}  // namespace
}  // namespace sluice::launcher
