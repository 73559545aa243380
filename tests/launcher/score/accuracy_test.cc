#include "launcher/score/accuracy.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace sluice::launcher {
namespace {

std::string record(const char* id, int best, int gold, const char* scores = "[]") {
  return fmt::format(
      R"({{"custom_id":"{}","scores":{},"best":{},"usage":{{}},"fields":{{"gold":{}}}}})", id,
      scores, best, gold);
}

std::string failure(const char* id) {
  return fmt::format(R"({{"custom_id":"{}","line":3,"error":{{"message":"broken {}"}}}})", id, id);
}

TEST(AccuracyTest, IsAMeanWithItsStandardError) {
  Accuracy accuracy;
  for (int i = 0; i < 10; ++i) {
    accuracy.add(record(fmt::format("{}", i).c_str(), i < 3 ? 1 : 0, 1));
  }
  EXPECT_EQ(accuracy.plain().count(), 10U);
  EXPECT_DOUBLE_EQ(accuracy.plain().mean(), 0.3);
  // statistics.stdev([1] * 3 + [0] * 7) / sqrt(10)
  EXPECT_NEAR(accuracy.plain().error(), 0.15275252316519466, 1e-12);
  EXPECT_EQ(accuracy_text(accuracy),
            "questions  10\nacc        0.3000 ± 0.1528\nacc_norm   0.0000 ± 0.0000\n");
}

TEST(AccuracyTest, LengthIsThatOfTheTextWithoutTheBlankInFront) {
  Accuracy accuracy;
  // -6 over 3 characters, -5 over 2, -8 over 4 (of five bytes): the first of the two best.
  const char* scores = R"([{"text":" abc","logprob":-6},{"text":" ab","logprob":-5},
                           {"text":"ab\u00e9c","logprob":-8}])";
  accuracy.add(record("a", 1, 0, scores));
  EXPECT_EQ(accuracy.plain().mean(), 0.0);
  EXPECT_EQ(accuracy.by_length().mean(), 1.0);
  EXPECT_EQ(accuracy_text(accuracy), "questions  1\nacc        0.0000\nacc_norm   1.0000\n");
}

TEST(AccuracyTest, ARowThatWasMendedHasNotFailed) {
  Accuracy accuracy;
  accuracy.add(failure("a"));
  accuracy.add(failure("b"));
  EXPECT_EQ(accuracy.failed(), 2U);
  accuracy.add(record("b", 0, 0));
  EXPECT_EQ(accuracy.failed(), 1U);
  EXPECT_EQ(accuracy.failure(), "broken a");
  EXPECT_EQ(accuracy.plain().count(), 1U);
}

TEST(AccuracyTest, RecordsOfOtherJobsDoNotCount) {
  Accuracy accuracy;
  accuracy.add(R"({"custom_id":"a","text":"x","token_ids":[1]})");
  accuracy.add(R"({"custom_id":"b","scores":[],"best":0})");
  accuracy.add("nonsense");
  EXPECT_EQ(accuracy_text(accuracy), "questions  0\n");
}

}  // namespace
}  // namespace sluice::launcher
