#include "launcher/jobs/grammar_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "grammar/matcher.h"
#include "grammar/program.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/journal_facts.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/structured/token_bytes.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GrammarFields : public testing::Test {
 protected:
  ParsedRow parse(const std::string& fields) {
    return parser_.parse_json("{\"prompt\": \"ab\", " + fields + "}", 3);
  }
  RequestRow accept(const std::string& fields) {
    auto parsed = parse(fields);
    if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
      ADD_FAILURE() << fields << ": " << failure->message;
      return {};
    }
    return std::get<RequestRow>(parsed);
  }
  void refuse(const std::string& fields, const std::string& param, const std::string& part) {
    auto parsed = parse(fields);
    ASSERT_TRUE(std::holds_alternative<RowFailure>(parsed)) << fields;
    EXPECT_EQ(std::get<RowFailure>(parsed).param, param) << fields;
    EXPECT_THAT(std::get<RowFailure>(parsed).message, HasSubstr(part));
  }
  bool fits(const RequestRow& row, const std::string& text) const {
    grammar::Matcher matcher(grammar::decode(*row.grammar));
    grammar::Matcher::State state = matcher.start();
    for (const char byte : text) state = matcher.next(state, static_cast<std::uint8_t>(byte));
    return matcher.may_end(state);
  }

  Tokenizer tokenizer_ = support::small_tokenizer({{"a", "b"}}, 270);
  RequestParser parser_{tokenizer_, {}, {270, 64}};
};

TEST_F(GrammarFields, EachFieldSaysWhatTheAnswerIs) {
  EXPECT_TRUE(fits(accept(R"("regex": "[0-9]{3}")"), "123"));
  EXPECT_TRUE(fits(accept(R"("choice": ["yes", "no"])"), "no"));
  EXPECT_TRUE(fits(accept(R"("grammar": "root ::= \"a\"+")"), "aaa"));
  EXPECT_TRUE(fits(accept(R"("response_format": {"type": "json_object"})"), R"({"a":1})"));
  const RequestRow row = accept(R"("response_format": {"type": "json_schema", "json_schema":
      {"name": "x", "strict": true, "schema": {"type": "integer", "maximum": 5}}})");
  EXPECT_TRUE(fits(row, "-7"));
  EXPECT_FALSE(fits(row, "7"));
}

TEST_F(GrammarFields, ARowThatAsksForNothingHasNone) {
  EXPECT_EQ(accept(R"("max_tokens": 3)").grammar, nullptr);
  EXPECT_EQ(accept(R"("response_format": {"type": "text"})").grammar, nullptr);
  EXPECT_EQ(accept(R"("response_format": null, "regex": null)").grammar, nullptr);
}

TEST_F(GrammarFields, TheTokensThatEndAnAnswerAreTheRows) {
  const RequestRow row = accept(R"("regex": "a", "stop_token_ids": [9, 5])");
  EXPECT_THAT(grammar::decode(*row.grammar).end_tokens, ElementsAre(2, 5, 9));
}

TEST_F(GrammarFields, RowsWithTheSameGrammarShareIt) {
  const RequestRow first = accept(R"("regex": "a+")");
  EXPECT_EQ(accept(R"("regex": "a+")").grammar, first.grammar);
  EXPECT_NE(accept(R"("regex": "a+", "stop_token_ids": [7])").grammar, first.grammar);
  RequestParser copy = parser_;
  const auto parsed = copy.parse_json(R"({"prompt": "b", "regex": "a+"})", 1);
  EXPECT_EQ(std::get<RequestRow>(parsed).grammar, first.grammar);
}

TEST_F(GrammarFields, WhatIsNotSupportedIsNamed) {
  refuse(R"("response_format": {"type": "json_schema", "json_schema":
      {"schema": {"type": "integer", "multipleOf": 3}}})",
         "response_format", "the keyword \"multipleOf\" is not supported");
  refuse(R"j("regex": "(?=a)")j", "regex", "look-ahead");
  refuse(R"("grammar": "root ::= item")", "grammar", "'item' is used and not defined");
  refuse(R"("response_format": {"type": "xml"})", "response_format", "json_object");
  refuse(R"("response_format": {"type": "json_schema"})", "response_format", "has no schema");
  refuse(R"("response_format": {"type": "json_object", "schema": {}})", "response_format",
         "the field \"schema\"");
  refuse(R"("response_format": "json")", "response_format", "an object with a type");
  refuse(R"("choice": [])", "choice", "a list of 1 to 1000 texts");
  refuse(R"("choice": ["a", 1])", "choice", "a list of 1 to 1000 texts");
  refuse(R"("regex": 7)", "regex", "must be a text");
}

TEST_F(GrammarFields, WhatWouldCutAnAnswerIsRefused) {
  refuse(R"("regex": "a", "choice": ["a"])", "choice", "both regex and choice");
  refuse(R"("regex": "a", "stop": "x")", "stop", "stop cannot be had with regex");
  refuse(R"("regex": "a", "ignore_eos": true)", "ignore_eos", "ends where it is complete");
  refuse(R"("regex": "a", "min_tokens": 2)", "min_tokens", "could not end");
  refuse(R"("regex": "a", "num_beams": 2)", "num_beams", "where an answer may end");
}

TEST_F(GrammarFields, TheJournalKnowsARowByItsGrammar) {
  const RequestRow plain = accept(R"("max_tokens": 3)");
  const RequestRow first = accept(R"("max_tokens": 3, "regex": "a")");
  const RequestRow second = accept(R"("max_tokens": 3, "regex": "b")");
  EXPECT_NE(journal_key(plain).digest, journal_key(first).digest);
  EXPECT_NE(journal_key(first).digest, journal_key(second).digest);
}

TEST_F(GrammarFields, TheJournalKnowsARowByItsAdapter) {
  RequestRow row = accept(R"("max_tokens": 3)");
  const std::uint64_t without = journal_key(row).digest;
  row.adapter = 0;
  row.adapter_digest = 5;
  const std::uint64_t with = journal_key(row).digest;
  EXPECT_NE(with, without);
  row.adapter_digest = 6;
  EXPECT_NE(journal_key(row).digest, with);
  row.adapter = 1;
  EXPECT_EQ(journal_key(row).digest, [&] {
    row.adapter = 0;
    return journal_key(row).digest;
  }()) << "the number of an adapter may be another in the next run";
}

TEST_F(GrammarFields, TheScanSaysWhetherARowHasOne) {
  JobScan scan;
  add_to_scan(accept(R"("max_tokens": 3)"), scan);
  EXPECT_FALSE(scan.grammars);
  add_to_scan(accept(R"("max_tokens": 3, "regex": "a")"), scan);
  EXPECT_TRUE(scan.grammars);
}

TEST_F(GrammarFields, SpecialTokensAreNoPartOfAnAnswer) {
  const grammar::TokenTrie trie = token_trie(tokenizer_, 272);
  EXPECT_EQ(trie.vocabulary(), 272);
  for (const std::int32_t id : {1, 2, 265, 271}) EXPECT_TRUE(trie.bytes_of(id).empty()) << id;
  EXPECT_THAT(trie.bytes_of(support::byte_id('x')), ElementsAre('x'));
  EXPECT_THAT(trie.bytes_of(support::kFirstMerge), ElementsAre('a', 'b'));
}

}  // namespace
}  // namespace sluice::launcher
