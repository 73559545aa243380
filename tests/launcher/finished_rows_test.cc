#include "launcher/jobs/finished_rows.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"
#include "launcher/jobs/answer_form.h"

namespace sluice::launcher {
namespace {

TEST(FinishedRows, KnowsAnswersAndErrorsOfBothForms) {
  FinishedRows finished;
  finished.add(R"({"custom_id": "a", "text": "x"})", "test");
  finished.add(failure_record({2, "b", RowForm::plain, "bad", "prompt", ""}), "test");
  finished.add(failure_record({3, "c", RowForm::batch, "bad", "prompt", ""}), "test");
  finished.add(R"({"custom_id": "d", "response": {"status_code": 200, "body": {}}, "error": null})",
               "test");
  for (const char* id : {"a", "b", "c", "d"}) EXPECT_TRUE(finished.has(id)) << id;
  EXPECT_FALSE(finished.has("e"));
  EXPECT_EQ(finished.records(), 4);
  EXPECT_EQ(finished.failures(), 2);
}

TEST(FinishedRows, ARefusedDuplicateIsNoAnswerToTheFirst) {
  for (const RowForm form : {RowForm::plain, RowForm::batch}) {
    FinishedRows finished;
    finished.add(failure_record({2, "a", form, "twice", "custom_id", kDuplicateCustomId}), "test");
    EXPECT_FALSE(finished.has("a"));
    EXPECT_TRUE(finished.take_duplicate("a"));
    EXPECT_FALSE(finished.take_duplicate("a"));
    EXPECT_FALSE(finished.take_duplicate("b"));
  }
}

TEST(FinishedRows, WhatIsNoRecordIsRefused) {
  for (const char* line :
       {"", "x", "{}", "[]", "3", R"({"custom_id": 3})", "{\"custom_id\": \"a\""}) {
    FinishedRows finished;
    EXPECT_THROW(finished.add(line, "out.jsonl, line 3"), InputError) << line;
  }
}

}  // namespace
}  // namespace sluice::launcher
