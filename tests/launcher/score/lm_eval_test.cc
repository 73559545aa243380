// Ids, contexts and choices are those of lm-evaluation-harness (make_lm_eval_cases.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>

#include "launcher/jobs/choice_fields.h"
#include "launcher/score/eval_rows.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {
namespace {

const std::filesystem::path kData = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data";

Json read_cases() {
  std::ifstream file(kData / "lm-eval-cases.json");
  return Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

std::vector<std::int32_t> ids_of(const Json& list) {
  std::vector<std::int32_t> ids;
  for (const Json& id : list) ids.push_back(static_cast<std::int32_t>(id.integer()));
  return ids;
}

TEST(LmEval, PromptsAndChoicesHaveItsTokens) {
  std::map<std::string, Tokenizer> tokenizers;
  std::size_t compared = 0;
  const Json cases = read_cases();
  for (const Json& pair : cases.at("pairs")) {
    const std::string& name = pair.at("tokenizer").text();
    if (!tokenizers.contains(name)) {
      tokenizers.emplace(name, Tokenizer::open(kData / "tokenizers" / name));
    }
    const std::string where = name + " " + pair.at("context").dump();
    Json row = Json::object();
    row["choices"] = Json::array({pair.at("continuation")});
    const auto expected = ids_of(pair.at("continuation_ids"));
    RequestRow read;
    const auto read_row = [&] {
      read_choices(RowFields(row), pair.at("context").text(), tokenizers.at(name), true, read);
    };
    if (expected.empty()) {
      EXPECT_THROW(read_row(), RowProblem) << where;
      continue;
    }
    read_row();
    EXPECT_EQ(read.prompt, ids_of(pair.at("context_ids"))) << where;
    EXPECT_EQ(read.choices.at(0).tokens, expected) << where;
    ++compared;
  }
  EXPECT_GT(compared, 100U);
}

TEST(LmEval, RowsHaveItsContextsAndChoices) {
  const Json cases = read_cases();
  for (const Json& one : cases.at("rows")) {
    const Json made = row_of_question(one.at("row"), {});
    EXPECT_EQ(made.at("prompt"), one.at("prompt")) << one.dump();
    EXPECT_EQ(made.at("choices"), one.at("choices")) << one.dump();
    EXPECT_EQ(made.at("gold"), one.at("gold")) << one.dump();
  }
  EXPECT_EQ(cases.at("rows").size(), 5U);
}

}  // namespace
}  // namespace sluice::launcher
