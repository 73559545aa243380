// Guesses by look-up, and how many of them pay.
#include "stage/drafter.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "stage/draft_pace.h"

namespace sluice::stage {
namespace {

std::vector<std::int32_t> guesses_of(const std::vector<std::int32_t>& tokens, std::size_t most) {
  std::vector<std::int32_t> room(most, -1);
  DraftRow row{0, 1, tokens, nullptr, room, -1};
  LookUpDrafter().draft({&row, 1});
  room.resize(static_cast<std::size_t>(row.count));
  return room;
}

using Tokens = std::vector<std::int32_t>;

TEST(LookUpDrafter, GuessesWhatFollowedTheLongestMatch) {
  // 8 9 stood there twice, behind 7 once.
  EXPECT_EQ(guesses_of({7, 8, 9, 1, 2, 8, 9, 3, 7, 8, 9}, 2), (Tokens{1, 2}));
  EXPECT_EQ(guesses_of({7, 8, 9, 1, 2, 8, 9, 3, 5, 8, 9}, 2), (Tokens{3, 5})) << "the last place";
  EXPECT_EQ(guesses_of({4, 5, 6, 4}, 2), (Tokens{5, 6})) << "one token is a match";
}

TEST(LookUpDrafter, TokensMayBeAlike) {
  // 12 is 2 with a blank in front of it.
  Tokens alike(13);
  std::iota(alike.begin(), alike.end(), 0);
  alike[12] = 2;
  const Tokens tokens = {1, 2, 3, 4, 12};
  Tokens room(2);
  DraftRow row{0, 1, tokens, nullptr, room, -1};
  LookUpDrafter().draft({&row, 1});
  EXPECT_EQ(row.count, 0);
  LookUpDrafter(alike).draft({&row, 1});
  EXPECT_EQ(row.count, 2);
  EXPECT_EQ(room, (Tokens{3, 4}));
}

TEST(LookUpDrafter, GuessesNothingWhereNothingComesAgain) {
  EXPECT_EQ(guesses_of({1, 2, 3}, 4), Tokens{});
  EXPECT_EQ(guesses_of({1}, 4), Tokens{});
}

TEST(LookUpDrafter, GoesOnWithItsGuessesBehindTheEnd) {
  EXPECT_EQ(guesses_of({1, 2, 1}, 5), (Tokens{2, 1, 2, 1, 2}));
  EXPECT_EQ(guesses_of({3, 3}, 3), (Tokens{3, 3, 3}));
}

TEST(DraftPace, GuessesAllThatMayBeRightWhereTokensAreFree) {
  DraftPace pace;
  Acceptance good;
  Acceptance bad;
  for (int i = 0; i < 20; ++i) {
    good.add(8, 8);
    bad.fade();
    bad.add(1, 0);
    pace.took(8 + i % 5, 10, 1.0);  // a pass takes a second, whatever is in it
  }
  EXPECT_EQ(pace.seconds_per_token(), 0);
  EXPECT_EQ(pace.worth(good, 8), 8);
  EXPECT_LE(pace.worth(bad, 8), 1);
}

TEST(DraftPace, GuessesNothingWhereATokenCostsWhatItGains) {
  DraftPace pace;
  Acceptance fair;
  for (int i = 0; i < 20; ++i) {
    fair.add(4, 3);
    const std::int32_t tokens = 8 + 4 * (i % 3);
    pace.took(tokens, static_cast<std::uint64_t>(tokens) * 9 / 10, 0.01 * tokens);
  }
  EXPECT_NEAR(pace.seconds_per_token(), 0.01, 1e-9);
  EXPECT_EQ(pace.worth(fair, 8), 0);
}

TEST(DraftPace, GuessesFewWhereTokensCostSomething) {
  DraftPace pace;
  Acceptance fair;
  for (int i = 0; i < 40; ++i) {
    fair.add(4, 2);
    const std::int32_t tokens = 4 + 4 * (i % 4);
    pace.took(tokens, 8, 0.1 + 0.003 * tokens);
  }
  const std::int32_t worth = pace.worth(fair, 8);
  EXPECT_GE(worth, 1);
  EXPECT_LT(worth, 8);
}

// The first guesses of all rows were wrong: that is no reason never to guess again.
TEST(DraftPace, ABadBeginningIsForgotten) {
  DraftPace pace;
  Acceptance row;
  pace.took(8, 8, 0.010);
  for (int i = 0; i < 8; ++i) pace.tried(1, 0);
  row.add(1, 0);
  pace.took(64, 8, 0.020);
  const std::int32_t at_first = pace.worth(row, 8);
  for (int i = 0; i < 40; ++i) {
    pace.took(8, 8, 0.010);
    row.fade();
  }
  EXPECT_GT(pace.worth(row, 8), 0);
  EXPECT_LE(at_first, pace.worth(row, 8));
}

TEST(DraftPace, AnOpinionFadesWithoutGuesses) {
  Acceptance bad;
  bad.add(8, 0);
  const double at_first = bad.estimate(0.5);
  for (int i = 0; i < 60; ++i) bad.fade();
  EXPECT_LT(at_first, 0.2);
  EXPECT_NEAR(bad.estimate(0.5), 0.5, 0.01);
}

}  // namespace
}  // namespace sluice::stage
