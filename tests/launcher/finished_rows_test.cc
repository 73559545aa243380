#include "launcher/jobs/finished_rows.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"
#include "launcher/jobs/answer_form.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Met = RowIds::Met;

RowFailure failure_of(std::int64_t line, const std::string& id, RowForm form,
                      const std::string& code = "") {
  RowFailure failure;
  failure.line = line;
  failure.custom_id = id;
  failure.form = form;
  failure.message = "bad";
  failure.code = code;
  return failure;
}

Met met(FinishedRows& finished, const std::string& id) {
  return finished.ids().meet(key_of_id(id), 1, false).met;
}

TEST(FinishedRows, KnowsAnswersAndErrorsOfBothForms) {
  FinishedRows finished;
  finished.add(R"({"custom_id": "a", "text": "x"})", "test");
  finished.add(failure_record(failure_of(2, "b", RowForm::plain)), "test");
  finished.add(failure_record(failure_of(3, "c", RowForm::batch)), "test");
  finished.add(R"({"custom_id": "d", "response": {"status_code": 200, "body": {}}, "error": null})",
               "test");
  EXPECT_EQ(met(finished, "a"), Met::answered);
  EXPECT_EQ(met(finished, "b"), Met::failed);
  EXPECT_EQ(met(finished, "c"), Met::failed);
  EXPECT_EQ(met(finished, "d"), Met::answered);
  EXPECT_EQ(met(finished, "e"), Met::never);
  EXPECT_EQ(finished.records(), 4);
  EXPECT_EQ(finished.failures(), 2);
}

// What answer_record() writes is read without a JSON parser, where it can be.
TEST(FinishedRows, AnswersAsTheyAreWrittenAreKnownWhateverTheirNames) {
  const Tokenizer tokenizer = support::small_tokenizer();
  for (const RowForm form : {RowForm::plain, RowForm::batch}) {
    FinishedRows finished;
    for (const std::string id : {"a", "", "quo\"te", "back\\slash", "\",\"error\":{", "\u00E9"}) {
      RequestRow row;
      row.line = 9;
      row.custom_id = id;
      row.form = form;
      row.prompt = {2, 5};
      Answer answer(tokenizer, row, 2);
      answer.finish_without_tokens();
      finished.add(answer_record(answer, {"m", 1}), "test");
      EXPECT_EQ(met(finished, id), Met::answered) << id;
      row.custom_id += " scored";
      row.choices = {{"b", {6}}};
      finished.add(answer_record(answer, {"m", 1}), "test");
      EXPECT_EQ(met(finished, row.custom_id), Met::answered) << id;
      row.custom_id += " embedded";
      row.choices.clear();
      row.embed = stage::Embed::last;
      finished.add(answer_record(answer, {"m", 1}), "test");
      EXPECT_EQ(met(finished, row.custom_id), Met::answered) << id;
    }
    RequestRow nameless;
    nameless.line = 12;
    nameless.naming = Naming::none;
    nameless.form = form;
    nameless.prompt = {2, 5};
    Answer answer(tokenizer, nameless, 2);
    answer.finish_without_tokens();
    finished.add(answer_record(answer, {"m", 1}), "test");
    EXPECT_EQ(finished.ids().meet(key_of_line(12), 12, true).met, Met::answered);
    EXPECT_EQ(finished.failures(), 0);
  }
}

TEST(FinishedRows, OfTwoRecordsOfARowTheLaterCounts) {
  FinishedRows finished;
  const std::string error = failure_record(failure_of(2, "b", RowForm::plain));
  finished.add(error, "test");
  EXPECT_EQ(finished.error_of(key_of_id("b")), hash_of(error));
  EXPECT_EQ(finished.failures(), 1);
  finished.add(R"({"custom_id":"b","text":"x"})", "test");
  EXPECT_EQ(finished.failures(), 0);
  EXPECT_EQ(met(finished, "b"), Met::answered);
}

TEST(FinishedRows, ARefusedDuplicateIsNoAnswerToTheFirst) {
  for (const RowForm form : {RowForm::plain, RowForm::batch}) {
    FinishedRows finished;
    finished.add(failure_record(failure_of(2, "a", form, kDuplicateCustomId)), "test");
    EXPECT_EQ(met(finished, "a"), Met::never);
    EXPECT_EQ(finished.failures(), 1);
    EXPECT_TRUE(finished.take_duplicate(key_of_id("a")));
    EXPECT_FALSE(finished.take_duplicate(key_of_id("a")));
    EXPECT_FALSE(finished.take_duplicate(key_of_id("b")));
    EXPECT_EQ(finished.failures(), 0);
  }
}

TEST(FinishedRows, WhatIsNoRecordIsRefused) {
  for (const char* line : {"", "x", "{}", "[]", "3", R"({"custom_id": 3})", "{\"custom_id\": \"a\"",
                           R"({"custom_id":"a","text":"torn)", R"({"custom_id":null})"}) {
    FinishedRows finished;
    EXPECT_THROW(finished.add(line, "out.jsonl, line 3"), InputError) << line;
  }
}

}  // namespace
}  // namespace sluice::launcher
