#include "launcher/jobs/beam_search.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sluice::launcher {
namespace {

using stage::Candidate;
using Next = std::vector<std::vector<Candidate>>;
using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kEnd = 0;

bool ends_with_end(std::span<const std::int32_t> tokens) { return tokens.back() == kEnd; }

BeamSettings settings_of(std::int32_t beams, std::int32_t max_tokens) {
  BeamSettings settings;
  settings.beams = beams;
  settings.max_tokens = max_tokens;
  return settings;
}

TEST(BeamSearch, TheBestSequenceNeedNotBeginWithTheBestToken) {
  BeamSearch search(settings_of(2, 2), ends_with_end);
  ASSERT_EQ(search.running().size(), 1U);
  search.step(Next{{{1, -0.5F}, {2, -1.0F}, {3, -4.0F}, {4, -5.0F}}});
  ASSERT_EQ(search.running().size(), 2U);
  EXPECT_EQ(search.running()[1].tokens, Ids{2});
  search.step(Next{{{5, -2.0F}, {6, -2.5F}, {7, -3.0F}, {8, -3.5F}},
                   {{9, -0.25F}, {6, -6.0F}, {7, -7.0F}, {8, -8.0F}}});
  EXPECT_TRUE(search.running().empty());
  ASSERT_EQ(search.finished().size(), 2U);
  EXPECT_EQ(search.finished()[0].tokens, (Ids{2, 9}));
  EXPECT_EQ(search.finished()[0].score, -1.25F / 2);
  EXPECT_EQ(search.finished()[1].tokens, (Ids{1, 5}));
  EXPECT_EQ(search.finished()[1].score, -2.5F / 2);
}

TEST(BeamSearch, OnlyTheBestContinuationsMayEnd) {
  BeamSearch search(settings_of(2, 9), ends_with_end);
  search.step(Next{{{1, -0.5F}, {2, -1.0F}, {kEnd, -1.5F}, {4, -5.0F}}});
  EXPECT_TRUE(search.finished().empty()) << "it was the third";
  EXPECT_EQ(search.running().size(), 2U);
  search.step(Next{{{kEnd, -0.5F}, {6, -2.5F}, {7, -3.0F}, {8, -3.5F}},
                   {{9, -2.5F}, {6, -6.0F}, {7, -7.0F}, {8, -8.0F}}});
  ASSERT_EQ(search.finished().size(), 1U);
  EXPECT_EQ(search.finished()[0].tokens, (Ids{1, kEnd}));
  EXPECT_EQ(search.finished()[0].score, -0.5F);
  ASSERT_EQ(search.running().size(), 2U);
  EXPECT_EQ(search.running()[0].tokens, (Ids{1, 6}));
  EXPECT_EQ(search.running()[1].tokens, (Ids{1, 7})) << "of equals that of the first beam";
}

/// Steps of which two continuations end at once, and the others are worse.
BeamSearch after_both_ended(EarlyStopping early_stopping, float length_penalty, float worse) {
  BeamSettings settings = settings_of(2, 20);
  settings.early_stopping = early_stopping;
  settings.length_penalty = length_penalty;
  BeamSearch search(settings, ends_with_end);
  search.step(Next{{{1, -0.5F}, {2, -0.75F}, {3, -9.0F}, {4, -9.0F}}});
  search.step(Next{{{kEnd, -0.5F}, {6, worse}, {7, worse - 1}, {8, worse - 2}},
                   {{kEnd, -0.5F}, {6, worse}, {7, worse - 1}, {8, worse - 2}}});
  EXPECT_EQ(search.finished().size(), 2U);
  return search;
}

TEST(BeamSearch, EarlyStoppingSaysWhenAFullSearchEnds) {
  EXPECT_TRUE(after_both_ended(EarlyStopping::yes, 1, -2.0F).running().empty());
  // -2.5 / 2 is no better than -1.25 / 2, but divided by 20 it may become so.
  EXPECT_TRUE(after_both_ended(EarlyStopping::no, 1, -2.0F).running().empty());
  EXPECT_FALSE(after_both_ended(EarlyStopping::never, 1, -2.0F).running().empty());
  EXPECT_TRUE(after_both_ended(EarlyStopping::never, 0, -2.0F).running().empty());
}

TEST(BeamSearch, LengthPenaltyWeighsLengths) {
  for (const float penalty : {-1.0F, 0.0F, 2.0F}) {
    const BeamSearch search = after_both_ended(EarlyStopping::yes, penalty, -3.0F);
    EXPECT_FLOAT_EQ(search.finished()[0].score, -1.0F / std::pow(2.0F, penalty));
    EXPECT_FLOAT_EQ(search.finished()[1].score, -1.25F / std::pow(2.0F, penalty));
  }
}

TEST(BeamSearch, MoreTokensThatEndNeedMoreCandidates) {
  BeamSettings settings = settings_of(3, 4);
  EXPECT_EQ(settings.candidates(), 6);
  settings.ends = 0;
  EXPECT_EQ(settings.candidates(), 6);
  settings.ends = 3;
  EXPECT_EQ(settings.candidates(), 12);
}

}  // namespace
}  // namespace sluice::launcher
