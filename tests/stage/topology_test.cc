#include "stage/topology.h"

#include <gtest/gtest.h>

namespace sluice::stage {
namespace {

TEST(TopologyTest, OneRankPerStageInOrder) {
  const Topology topology = Topology::of_ranks(3);
  EXPECT_EQ(topology.stages, 3);
  EXPECT_EQ(topology.ranks(), 3);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(topology.rank_of(topology.stage_of(rank)), rank);
  }
  EXPECT_EQ(topology.head(), 0);
  EXPECT_EQ(topology.last(), 2);
}

TEST(TopologyTest, EveryStageTalksToTheNextAndTheHeadFeedsTheFirst) {
  const Topology topology = Topology::of_ranks(4);
  EXPECT_EQ(topology.before(0), topology.head());
  for (std::int32_t stage = 1; stage < 4; ++stage) {
    EXPECT_EQ(topology.before(stage), topology.rank_of(stage - 1));
    EXPECT_EQ(topology.after(stage - 1), topology.rank_of(stage));
  }
}

TEST(TopologyTest, ALoneRankIsHeadAndLast) {
  const Topology topology = Topology::of_ranks(1);
  EXPECT_EQ(topology.head(), topology.last());
  EXPECT_EQ(topology.before(0), 0);
}

}  // namespace
}  // namespace sluice::stage
