#include "comm/peers.h"

#include <gtest/gtest.h>

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Peers::Time kStart{seconds(1000)};
constexpr seconds kDeadline{10};

TEST(Peers, NobodyIsSilentBeforeTheDeadline) {
  const Peers peers(0, 3, kDeadline, kStart);
  EXPECT_EQ(peers.silent(kStart), -1);
  EXPECT_EQ(peers.silent(kStart + kDeadline), -1);
}

TEST(Peers, TheHeadNoticesWhoeverIsSilentAndKnowsItsLastStep) {
  Peers peers(0, 4, kDeadline, kStart);
  const Peers::Time later = kStart + seconds(8);
  peers.heard(1, make_step("layer", 1, 2), later);
  peers.heard(2, make_step("layer", 3, 4), kStart + seconds(1));
  peers.heard(3, make_step("layer", 5, 6), later);
  EXPECT_EQ(peers.silent(kStart + seconds(11)), -1);
  EXPECT_EQ(peers.silent(kStart + seconds(11) + milliseconds(1)), 2);
  EXPECT_EQ(describe(peers.last_step(2)), "pass 3, layer 4");
}

TEST(Peers, TheHeadIsNotSilentToItself) {
  const Peers peers(0, 1, kDeadline, kStart);
  EXPECT_EQ(peers.silent(kStart + seconds(1000)), -1);
}

TEST(Peers, OthersWatchTheHeadOnlyAndRankOneSpeaksFirst) {
  const Peers first(1, 3, kDeadline, kStart);
  const Peers second(2, 3, kDeadline, kStart);
  const Peers::Time overdue = kStart + kDeadline + milliseconds(1);
  EXPECT_EQ(first.silent(overdue), 0);
  EXPECT_EQ(second.silent(overdue), -1);
  EXPECT_EQ(second.silent(overdue + seconds(1)), 0);

  Peers healthy(1, 3, kDeadline, kStart);
  healthy.heard(0, {}, kStart + seconds(100));
  EXPECT_EQ(healthy.silent(kStart + seconds(101)), -1);
}

TEST(Peers, AProcessThatStoodStillItselfBlamesNobody) {
  Peers peers(0, 2, kDeadline, kStart);
  peers.tick(kStart + seconds(1));
  const Peers::Time woken = kStart + seconds(100);
  peers.tick(woken);
  EXPECT_EQ(peers.silent(woken), -1);
  EXPECT_EQ(peers.silent(woken + kDeadline + milliseconds(1)), 1);
}

TEST(Peers, TickingInTimeForgivesNothing) {
  Peers peers(0, 2, kDeadline, kStart);
  for (int second = 1; second <= 11; ++second) peers.tick(kStart + seconds(second));
  EXPECT_EQ(peers.silent(kStart + seconds(11)), 1);
}

TEST(Peers, SilenceIsAlsoToldOfAShorterTime) {
  Peers peers(0, 3, kDeadline, kStart);
  peers.heard(1, {}, kStart + seconds(3));
  EXPECT_EQ(peers.silent_for(seconds(2), kStart + seconds(4)), 2);
  EXPECT_EQ(peers.silent_for(seconds(4), kStart + seconds(4)), -1);
  EXPECT_EQ(peers.silent(kStart + seconds(4)), -1);
}

}  // namespace
}  // namespace sluice::comm
