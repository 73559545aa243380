#include "comm/transport_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/comm/run_ranks.h"

namespace sluice::comm {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

RankPlace gpu(const std::string& host, const std::string& id) { return {host, "cuda", id}; }
RankPlace cpu(const std::string& host) { return {host, "cpu", ""}; }

const std::vector<RankPlace> kTwoGpus = {gpu("a", "0000:3b:00.0"), gpu("a", "0000:5e:00.0")};
const std::vector<RankPlace> kTwoHosts = {gpu("a", "0000:3b:00.0"), gpu("b", "0000:3b:00.0")};
const std::vector<RankPlace> kShared = {gpu("a", "0000:01:00.0"), gpu("a", "0000:3b:00.0"),
                                        gpu("a", "0000:3b:00.0")};
const std::vector<RankPlace> kMixed = {gpu("a", "0000:3b:00.0"), cpu("a")};

TransportChoice choose(Transport wanted, const std::vector<RankPlace>& ranks,
                       const std::string& plugin_problem = "") {
  const std::string obstacle = obstacle_to_nccl(wanted, ranks);
  return decide(wanted, ranks, obstacle.empty() ? plugin_problem : obstacle);
}

TEST(TransportChoice, AutoTakesNcclWhereEveryRankHasAGpuOfItsOwn) {
  for (const auto& ranks : {kTwoGpus, kTwoHosts}) {
    EXPECT_TRUE(choose(Transport::automatic, ranks).nccl);
    EXPECT_EQ(choose(Transport::automatic, ranks).text, "nccl");
  }
}

TEST(TransportChoice, AutoSaysWhyNot) {
  const auto text = [](const std::vector<RankPlace>& ranks, const std::string& problem = "") {
    const TransportChoice choice = choose(Transport::automatic, ranks, problem);
    EXPECT_FALSE(choice.nccl);
    return choice.text;
  };
  EXPECT_EQ(text(kShared), "host-staged MPI (ranks 1 and 2 share GPU 0000:3b:00.0)");
  EXPECT_EQ(text(kMixed), "host-staged MPI (rank 1 computes on the CPU)");
  EXPECT_EQ(text({cpu("a"), cpu("b")}), "MPI (rank 0 computes on the CPU)");
  EXPECT_EQ(text(kTwoGpus, "rank 1: NCCL unavailable: libnccl.so.2: cannot open"),
            "host-staged MPI (rank 1: NCCL unavailable: libnccl.so.2: cannot open)");
}

TEST(TransportChoice, InstancesOfAGpuAreOneToNccl) {
  const std::vector<RankPlace> instances = {gpu("a", "0000:3b:00.0 3b1c9f60-0"),
                                            gpu("a", "0000:3b:00.0 3b1c9f60-1")};
  EXPECT_EQ(choose(Transport::automatic, instances).text,
            "host-staged MPI (ranks 0 and 1 share GPU 0000:3b:00.0)");
  EXPECT_THAT(nccl_environment(1, instances), testing::Contains(Pair("NCCL_HOSTID", "a-rank-1")));
}

TEST(TransportChoice, NcclByNameNeverFallsBack) {
  EXPECT_TRUE(choose(Transport::nccl, kTwoGpus).nccl);
  EXPECT_TRUE(choose(Transport::nccl, kShared).nccl);  // as hosts of their own
  const auto refusal = [](const std::vector<RankPlace>& ranks, const std::string& problem = "") {
    try {
      choose(Transport::nccl, ranks, problem);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was refused");
  };
  EXPECT_EQ(refusal(kMixed),
            "comm.transport: nccl cannot be used: rank 1 computes on the CPU; use --transport mpi, "
            "or auto");
  EXPECT_THAT(refusal(kTwoGpus, "rank 0: NCCL unavailable: libsluice_nccl.so"),
              HasSubstr("rank 0: NCCL unavailable: libsluice_nccl.so; use"));
}

TEST(TransportChoice, MpiByNameIsTaken) {
  EXPECT_FALSE(choose(Transport::mpi, kTwoGpus).nccl);
  EXPECT_EQ(choose(Transport::mpi, kTwoGpus).text, "host-staged MPI (asked for)");
  EXPECT_EQ(choose(Transport::mpi, {cpu("a"), cpu("a")}).text, "MPI (asked for)");
}

TEST(TransportChoice, OneRankHasNothingToChoose) {
  const auto worlds = make_local_worlds(1);
  for (const Transport wanted : {Transport::automatic, Transport::mpi, Transport::nccl}) {
    const TransportChoice choice = choose_transport(*worlds[0], wanted, BackendInfo());
    EXPECT_FALSE(choice.nccl);
    EXPECT_EQ(choice.text, "");
  }
}

TEST(TransportChoice, IsTheSameOnEveryRank) {
  run_local_ranks(3, [](World& world) {
    BackendInfo info;
    info.kind = world.rank() == 2 ? "cpu" : "cuda";
    info.device_id = "0000:0" + std::to_string(world.rank()) + ":00.0";
    EXPECT_EQ(choose_transport(world, Transport::automatic, info).text,
              "host-staged MPI (rank 2 computes on the CPU)");
    EXPECT_THROW(choose_transport(world, Transport::nccl, info), ConfigError);
    info.kind = "cuda";
    info.device_id = world.rank() == 1 ? "0000:07:00.0" : "0000:03:00.0";
    EXPECT_EQ(choose_transport(world, Transport::automatic, info).text,
              "host-staged MPI (ranks 0 and 2 share GPU 0000:03:00.0)");
  });
}

TEST(NcclEnvironment, KeepsToOneHostAndTellsRanksOfAGpuApart) {
  EXPECT_THAT(nccl_environment(0, kTwoGpus),
              UnorderedElementsAre(Pair("NCCL_RAS_ENABLE", "0"), Pair("NCCL_SOCKET_IFNAME", "lo")));
  EXPECT_THAT(nccl_environment(1, kTwoHosts), UnorderedElementsAre(Pair("NCCL_RAS_ENABLE", "0")));
  EXPECT_THAT(nccl_environment(0, kShared),
              UnorderedElementsAre(Pair("NCCL_RAS_ENABLE", "0"), Pair("NCCL_SOCKET_IFNAME", "lo")));
  for (const int rank : {1, 2}) {
    EXPECT_THAT(nccl_environment(rank, kShared),
                UnorderedElementsAre(Pair("NCCL_RAS_ENABLE", "0"), Pair("NCCL_SOCKET_IFNAME", "lo"),
                                     Pair("NCCL_HOSTID", "a-rank-" + std::to_string(rank))));
  }
}

}  // namespace
}  // namespace sluice::comm
