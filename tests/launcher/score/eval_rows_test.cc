// Rows of evaluation data sets as rows with choices. The expected contexts are lm-eval's.
#include "launcher/score/eval_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/jobs/row_fields.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

Json row_of(const char* question, const EvalOptions& options = {}) {
  return row_of_question(Json::parse(question), options);
}

TEST(EvalRows, MmlusChoicesAreLetters) {
  const Json row = row_of(R"({"question": " What is 1 + 1?\n", "subject": "arithmetic",
                              "choices": ["1", "2", "3", "4"], "answer": 1})");
  EXPECT_EQ(row, Json::parse(R"({
      "prompt": "What is 1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
      "choices": [" A", " B", " C", " D"], "add_special_tokens": true, "gold": 1})"));
}

TEST(EvalRows, PrefixesStandInFrontAsTheyAre) {
  const Json row = row_of(R"({"question": "q", "choices": ["a", "b"], "answer": "B",
                              "prefix": "of the row\n\n"})",
                          {"of the run\n\n", false});
  EXPECT_EQ(row.at("prompt"), "of the run\n\nof the row\n\nq\nA. a\nB. b\nAnswer:");
  EXPECT_EQ(row.at("add_special_tokens"), false);
  EXPECT_EQ(row.at("gold"), 1);
}

TEST(EvalRows, TheRightChoiceIsAnIndexOrALetter) {
  const std::pair<const char*, int> answers[] = {
      {"0", 0}, {"2", 2}, {R"("2")", 2}, {R"("C")", 2}, {R"(" B ")", 1}};
  for (const auto& [answer, gold] : answers) {
    const std::string line = std::string(R"({"question": "q", "choices": ["a", "b", "c"], )") +
                             "\"answer\": " + answer + "}";
    EXPECT_EQ(row_of(line.c_str()).at("gold"), gold) << answer;
  }
}

// Of the data set's own rows; what is expected is what lm-eval's process_docs() makes of them.
TEST(EvalRows, HellaSwagsEndingsAreCleanedAsItsContextIs) {
  const Json row = row_of(R"({
      "activity_label": "Removing ice from car", "ctx_a": "Then, the man writes.",
      "ctx_b": "then", "ctx": "Then, the man writes. then",
      "endings": [", the man adds wax.", " [title] Step  two [substeps] done.", "x", "y [ z"],
      "label": "3"})");
  EXPECT_EQ(row.at("prompt"), "Removing ice from car: Then, the man writes. Then");
  EXPECT_EQ(row.at("gold"), 3);
  EXPECT_EQ(row.at("choices"),
            Json::parse(R"([" , the man adds wax.", "  Step two done.", " x", " y [ z"])"));
  EXPECT_EQ(row_of(R"({"ctx": "How [header] to win [title] Try", "endings": ["a", "b"],
                       "label": 0})")
                .at("prompt"),
            "How to win. Try");
}

TEST(EvalRows, BracketsOfWikiHowGo) {
  EXPECT_EQ(without_brackets("  a [title] b [c d] e  "), "a. b e");
  EXPECT_EQ(without_brackets("[header] a"), " a");
  EXPECT_EQ(without_brackets("a [b\nc] [d]e"), "a [b\nc] e");
  EXPECT_EQ(without_brackets("a    b"), "a  b");
}

TEST(EvalRows, WhatIsMissingIsNamed) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"query": "q"})", "question", "neither a question"},
      {R"({"question": "q", "answer": 0})", "choices", "has a question, but no choices"},
      {R"({"question": "q", "choices": ["a"]})", "answer", "has a question, but no answer"},
      {R"({"question": 4, "choices": ["a"], "answer": 0})", "question", "must be a text"},
      {R"({"question": "q", "choices": [], "answer": 0})", "choices", "must be a list of texts"},
      {R"({"question": "q", "choices": "ab", "answer": 0})", "choices", "must be a list of texts"},
      {R"({"question": "q", "choices": ["a", 1], "answer": 0})", "choices", "a list of texts"},
      {R"({"question": "q", "choices": ["a", "b"], "answer": 2})", "answer", "of the 2 choices"},
      {R"({"question": "q", "choices": ["a", "b"], "answer": "C"})", "answer", "of the 2 choices"},
      {R"({"ctx": "c", "label": 0})", "endings", "has a ctx, but no endings"},
      {R"({"ctx": "c", "endings": ["a"]})", "label", "has a ctx, but no label"},
      {R"({"ctx": "c", "endings": ["a"], "label": ""})", "label", "the index or the letter"},
      {R"({"ctx_a": "c", "endings": ["a"], "label": 0})", "ctx", "has a ctx, but no ctx"},
  };
  for (const auto& [line, param, message] : cases) {
    try {
      row_of(line);
      ADD_FAILURE() << "taken: " << line;
    } catch (const RowProblem& problem) {
      EXPECT_EQ(problem.param, param) << line;
      EXPECT_THAT(problem.message, HasSubstr(message)) << line;
    }
  }
}

}  // namespace
}  // namespace sluice::launcher
