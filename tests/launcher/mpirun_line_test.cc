#include "launcher/launch/mpirun_line.h"
#include "launcher/launch/launch_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "kernels/device/error.h"
#include "launcher/config/cli.h"

namespace sluice::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RankStart start_of(int ranks) {
  RankStart start;
  start.ranks = ranks;
  return start;
}

TEST(RankCommand, NeedsMpirunForSeveralRanksOnly) {
  EXPECT_THAT(rank_command(start_of(1), "sluice", {"generate"}), ElementsAre("sluice", "generate"));
  EXPECT_THAT(rank_command(start_of(2), "sluice", {"generate"}),
              ElementsAre("mpirun", "--bind-to", "none", "--oversubscribe", "--mca", "btl",
                          "self,vader", "-n", "2", "sluice", "generate"));
}

TEST(RankCommand, OverHostsNothingIsRestrictedUnasked) {
  RankStart start = start_of(1);
  start.hosts = "a";
  start.is_one_host = false;
  start.is_root = true;
  EXPECT_THAT(rank_command(start, "sluice", {}),
              ElementsAre("mpirun", "--allow-run-as-root", "--bind-to", "none", "--host", "a", "-n",
                          "1", "sluice"));
  start.hosts.clear();
  start.hostfile = "hosts.txt";
  start.interface = "eth0";
  start.is_root = false;
  EXPECT_THAT(rank_command(start, "sluice", {}),
              ElementsAre("mpirun", "--bind-to", "none", "--hostfile", "hosts.txt", "--mca",
                          "btl_tcp_if_include", "eth0", "--mca", "oob_tcp_if_include", "eth0", "-x",
                          "NCCL_SOCKET_IFNAME=eth0", "-n", "1", "sluice"));
}

TEST(RankCommand, RanksStayOnThisHostUnlessSomethingSaysOtherwise) {
  const auto stays = [](const RankStart& start, std::map<std::string, const char*> variables) {
    return stays_on_host(start, [&](const char* name) {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second;
    });
  };
  EXPECT_TRUE(stays({}, {}));
  EXPECT_TRUE(stays({}, {{"SLURM_JOB_NUM_NODES", "1"}}));
  EXPECT_FALSE(stays({}, {{"SLURM_JOB_NUM_NODES", "4"}}));
  EXPECT_FALSE(stays({}, {{"PBS_NODEFILE", "/var/nodes"}}));
  RankStart start;
  start.hostfile = "hosts.txt";
  EXPECT_FALSE(stays(start, {}));
}

ParsedCommand parse(std::vector<const char*> words) {
  words.insert(words.begin(), {"sluice", "launch"});
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

std::string refusal_of(const std::vector<const char*>& words) {
  try {
    parse(words);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(LaunchFlags, StandBeforeTheRunAndTheRunsAfterIt) {
  const ParsedCommand parsed = parse({"-n", "4", "--max-restarts=3", "generate", "--model", "m",
                                      "--input", "generate", "--output", "out"});
  EXPECT_EQ(parsed.command, Command::launch);
  EXPECT_EQ(parsed.launch.start.ranks, 4);
  EXPECT_EQ(parsed.launch.max_restarts, 3);
  EXPECT_THAT(parsed.launch.words,
              ElementsAre("generate", "--model", "m", "--input", "generate", "--output", "out"));
  EXPECT_EQ(parsed.launch.config.job.output, "out");
}

TEST(LaunchFlags, WhatIsWrongIsSaidBeforeAnythingStarts) {
  EXPECT_THAT(refusal_of({}), HasSubstr("launch what?"));
  EXPECT_THAT(refusal_of({"-n", "0", "generate"}), HasSubstr("--ranks"));
  EXPECT_THAT(refusal_of({"--rank", "2", "generate"}), HasSubstr("--ranks"));
  EXPECT_THAT(refusal_of({"generate", "--model", "m"}), HasSubstr("there is nothing to do"));
  EXPECT_THAT(refusal_of({"generate", "--modell", "m"}), HasSubstr("--model"));
  EXPECT_THAT(
      refusal_of({"--host", "a", "--hostfile", "b", "generate", "--model", "m", "--prompt", "p"}),
      HasSubstr("give one of them"));
  EXPECT_THAT(refusal_of({"--interface", "eth0", "generate", "--model", "m", "--prompt", "p"}),
              HasSubstr("for several hosts"));
}

TEST(LaunchFlags, HelpIsLaunchsOrTheRuns) {
  EXPECT_THAT(parse({"--help"}).text, HasSubstr("--max-restarts"));
  EXPECT_THAT(parse({"generate", "--help"}).text, HasSubstr("--gpu-batch-size"));
}

TEST(LaunchFlags, ARunThatIsStartedAgainResumes) {
  LaunchArguments arguments =
      parse({"generate", "--model", "m", "--input", "i", "--output", "o", "--overwrite"}).launch;
  EXPECT_THAT(resumed(arguments),
              ElementsAre("generate", "--model", "m", "--input", "i", "--output", "o", "--resume"));
  arguments = parse({"generate", "--model", "m", "--prompt", "p"}).launch;
  EXPECT_EQ(resumed(arguments), arguments.words);
  arguments = parse({"generate", "--model", "m", "--input", "i", "--output", "-"}).launch;
  EXPECT_EQ(resumed(arguments), arguments.words);
}

}  // namespace
}  // namespace sluice::launcher
