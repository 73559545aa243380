#include "launcher/jobs/request_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using Strings = std::vector<std::string>;
using support::byte_id;
using testing::HasSubstr;

constexpr ModelLimits kLimits = {270, 64};

class RequestParserTest : public testing::Test {
 protected:
  RequestRow accept(const std::string& line, std::int64_t number = 3) {
    auto parsed = parser_.parse_json(line, number);
    if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
      ADD_FAILURE() << line << ": " << failure->message;
      return {};
    }
    return std::get<RequestRow>(parsed);
  }
  RowFailure refuse(const std::string& line, std::int64_t number = 3) {
    auto parsed = parser_.parse_json(line, number);
    if (std::holds_alternative<RequestRow>(parsed)) {
      ADD_FAILURE() << "accepted: " << line;
      return {};
    }
    return std::get<RowFailure>(parsed);
  }
  /// {"prompt": "ab", <fields>} and the field at fault, with a part of the message.
  void refuse_field(const std::string& fields, const std::string& param, const std::string& part) {
    const RowFailure failure = refuse("{\"prompt\": \"ab\", " + fields + "}");
    EXPECT_EQ(failure.param, param) << fields;
    EXPECT_THAT(failure.message, HasSubstr(part));
    EXPECT_THAT(failure.message, HasSubstr("line 3: "));
    EXPECT_EQ(failure.custom_id, "row-3");
    EXPECT_EQ(failure.line, 3);
    EXPECT_FALSE(failure.ours);
  }

  Tokenizer tokenizer_ = support::small_tokenizer({}, 270);
  GenerationDefaults defaults_;
  RequestParser parser_{tokenizer_, defaults_, kLimits};
};

TEST_F(RequestParserTest, ARowNamesItsAdapter) {
  ModelLimits limits = kLimits;
  limits.adapters = {{"law", 7}, {"medicine", 9}};
  RequestParser parser(tokenizer_, defaults_, limits);
  const auto accepted = [&](const std::string& line) {
    return std::get<RequestRow>(parser.parse_json(line, 3));
  };
  const RequestRow row = accepted(R"({"prompt": "ab", "lora": "medicine"})");
  EXPECT_EQ(row.adapter, 1);
  EXPECT_EQ(row.adapter_digest, 9U);
  EXPECT_EQ(to_request(row, 5).adapter, 1);
  EXPECT_EQ(accepted(R"({"prompt": "ab", "choices": ["c"], "lora": "law"})").adapter, 0);
  EXPECT_EQ(accepted(R"({"prompt": "ab", "embed": "last", "lora": "law"})").adapter, 0);
  EXPECT_EQ(accepted(R"({"prompt": "ab", "lora": null})").adapter, -1);
  EXPECT_EQ(to_request(accepted(R"({"prompt": "ab"})"), 5).adapter, -1);
  const auto refused =
      std::get<RowFailure>(parser.parse_json(R"({"prompt": "ab", "lora": "medicin"})", 3));
  EXPECT_EQ(refused.param, "lora");
  EXPECT_THAT(refused.message, HasSubstr("did you mean 'medicine'?"));
  refuse_field(R"("lora": "law")", "lora", "no --lora NAME=DIR");
  refuse_field(R"("lora": 1)", "lora", "lora is 1");
}

TEST_F(RequestParserTest, APromptAloneTakesTheDefaults) {
  const RequestRow row = accept(R"({"prompt": "ab"})");
  EXPECT_EQ(row.line, 3);
  EXPECT_EQ(row.custom_id, "row-3");
  EXPECT_EQ(row.form, RowForm::plain);
  EXPECT_EQ(row.prompt, (Ids{2, byte_id('a'), byte_id('b')}));
  EXPECT_EQ(row.max_tokens, defaults_.max_new_tokens);
  EXPECT_EQ(row.sampling.temperature, 0.0F);
  EXPECT_EQ(row.sampling.logprobs, -1);
  EXPECT_FALSE(row.wants_logprobs());
  EXPECT_FALSE(row.echo);
}

TEST_F(RequestParserTest, EveryFieldIsRead) {
  const RequestRow row = accept(
      R"({"custom_id": "a", "prompt": [7, 0, 269], "max_tokens": 5, "temperature": 0.5,
          "top_p": 0.25, "top_k": 7, "stop": ["x", "yz"], "seed": -1, "logprobs": 20, "echo": true,
          "repetition_penalty": 1.5, "stop_token_ids": [4, 5], "ignore_eos": true,
          "skip_special_tokens": false})");
  EXPECT_EQ(row.custom_id, "a");
  EXPECT_EQ(row.prompt, (Ids{7, 0, 269}));
  EXPECT_EQ(row.max_tokens, 5);
  EXPECT_EQ(row.sampling.temperature, 0.5F);
  EXPECT_EQ(row.sampling.top_p, 0.25F);
  EXPECT_EQ(row.sampling.top_k, 7);
  EXPECT_EQ(row.stop, (Strings{"x", "yz"}));
  EXPECT_EQ(row.sampling.seed, ~std::uint64_t{0});
  EXPECT_EQ(row.sampling.logprobs, 20);
  EXPECT_TRUE(row.echo);
  EXPECT_EQ(row.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(row.stop_token_ids, (Ids{4, 5}));
  EXPECT_TRUE(row.ignore_eos);
  EXPECT_FALSE(row.skip_special);
}

TEST_F(RequestParserTest, NullIsAbsentAndNeutralForeignFieldsPass) {
  const RequestRow row = accept(
      R"({"prompt": "ab", "custom_id": null, "max_tokens": null, "stop": null, "seed": null,
          "logprobs": null, "n": 1, "best_of": 1, "stream": false, "suffix": null,
          "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0})");
  EXPECT_EQ(row.custom_id, "row-3");
  EXPECT_EQ(row.max_tokens, defaults_.max_new_tokens);
}

TEST_F(RequestParserTest, StopIsATextOrAList) {
  EXPECT_EQ(accept(R"({"prompt": "a", "stop": "\n"})").stop, (Strings{"\n"}));
  EXPECT_EQ(accept(R"({"prompt": "a", "stop": []})").stop, Strings{});
}

TEST_F(RequestParserTest, EchoGivesThePromptBack) {
  EXPECT_EQ(accept(R"({"prompt": "a</s>b", "echo": true})").prompt_text, "a</s>b");
  EXPECT_EQ(accept(R"({"prompt": [2, 101, 2], "echo": true})").prompt_text, "a</s>");
  EXPECT_EQ(accept(R"({"prompt": [101, 2], "echo": true})").prompt_text, "a</s>");
  EXPECT_EQ(accept(R"({"prompt": "ab"})").prompt_text, "");
}

TEST_F(RequestParserTest, TheBatchFormIsRecognised) {
  const RequestRow row = accept(
      R"({"custom_id": "q", "method": "POST", "url": "/v1/completions",
          "body": {"model": "m", "user": "u", "prompt": "ab", "max_tokens": 2, "top_k": 3}})");
  EXPECT_EQ(row.form, RowForm::batch);
  EXPECT_EQ(row.custom_id, "q");
  EXPECT_EQ(row.max_tokens, 2);
  EXPECT_EQ(row.sampling.top_k, 3);
  EXPECT_TRUE(parser_.take_warnings().empty());
}

TEST_F(RequestParserTest, UnknownFieldsOfTheBatchFormAreWarnedOfOnce) {
  const std::string row =
      R"({"custom_id": "q", "url": "/v1/completions", "priority": 1,
          "body": {"prompt": "ab", "metadata": {}, "max_token": 9}})";
  accept(row, 1);
  accept(row, 2);
  const Strings warnings = parser_.take_warnings();
  ASSERT_EQ(warnings.size(), 3U);
  EXPECT_THAT(warnings[0], HasSubstr("priority"));
  EXPECT_THAT(warnings[1], HasSubstr("metadata"));
  EXPECT_THAT(warnings[2], HasSubstr("max_token"));
  EXPECT_TRUE(parser_.take_warnings().empty());
}

TEST_F(RequestParserTest, BadBatchRows) {
  const auto refused = [&](const std::string& line, const std::string& param) {
    const RowFailure failure = refuse(line);
    EXPECT_EQ(failure.form, RowForm::batch) << line;
    EXPECT_EQ(failure.param, param) << line;
    EXPECT_EQ(failure.custom_id, "q") << line;
  };
  refused(R"({"custom_id": "q", "url": "/v1/embeddings", "body": {"prompt": "a"}})", "url");
  refused(R"({"custom_id": "q", "url": "/v1/completions", "method": "GET", "body": {}})", "method");
  refused(R"({"custom_id": "q", "url": "/v1/completions"})", "body");
  refused(R"({"custom_id": "q", "url": "/v1/completions", "body": "prompt"})", "body");
  refused(R"({"custom_id": "q", "body": {"prompt": "a"}})", "url");
  refused(R"({"custom_id": "q", "url": "/v1/completions", "body": {}})", "prompt");
  refused(R"({"custom_id": "q", "url": "/v1/completions", "body": {"prompt": "a", "n": 0}})", "n");
  // A line that is no JSON is answered in the form of those before it.
  EXPECT_EQ(refuse("{").form, RowForm::batch);
}

TEST_F(RequestParserTest, TypesAndRanges) {
  refuse_field(R"("max_tokens": -1)", "max_tokens", "-1");
  refuse_field(R"("max_tokens": 1.5)", "max_tokens", "integer");
  refuse_field(R"("max_tokens": "5")", "max_tokens", "integer");
  refuse_field(R"("max_tokens": true)", "max_tokens", "integer");
  refuse_field(R"("max_tokens": 99999999999)", "max_tokens", "99999999999");
  refuse_field(R"("max_tokens": 18446744073709551615)", "max_tokens", "18446744073709551615");
  refuse_field(R"("temperature": -0.1)", "temperature", "at least 0");
  refuse_field(R"("temperature": 1000)", "temperature", "at most 100");
  refuse_field(R"("temperature": "hot")", "temperature", "number");
  refuse_field(R"("top_p": 0)", "top_p", "above 0");
  refuse_field(R"("top_p": 1e-60)", "top_p", "above 0");
  refuse_field(R"("top_p": 1.01)", "top_p", "at most 1");
  refuse_field(R"("top_k": -1)", "top_k", "integer");
  refuse_field(R"("repetition_penalty": 0)", "repetition_penalty", "at least 0.01");
  refuse_field(R"("repetition_penalty": 1e-38)", "repetition_penalty", "at least 0.01");
  refuse_field(R"("seed": 9223372036854775808)", "seed", "integer");
  refuse_field(R"("seed": 0.5)", "seed", "integer");
  refuse_field(R"("logprobs": 21)", "logprobs", "20");
  refuse_field(R"("logprobs": true)", "logprobs", "integer");
  refuse_field(R"("echo": 1)", "echo", "true or false");
  refuse_field(R"("ignore_eos": "no")", "ignore_eos", "true or false");
  refuse_field(R"("skip_special_tokens": 0)", "skip_special_tokens", "true or false");
  refuse_field(R"("stop": "")", "stop", "1 to");
  refuse_field(R"("stop": ["a", ""])", "stop", "1 to");
  refuse_field(R"("stop": 3)", "stop", "list");
  refuse_field(R"("stop": ["a", 3])", "stop", "text");
  refuse_field(R"("stop": ["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])",
               "stop", "17 texts");
  refuse_field(R"("stop_token_ids": 3)", "stop_token_ids", "list");
  refuse_field(R"("stop_token_ids": [270])", "stop_token_ids", "269");
  refuse_field(R"("stop_token_ids": [-1])", "stop_token_ids", "stop_token_ids[0]");
  refuse_field(R"("n": 0)", "n", "from 1 to 128");
  refuse_field(R"("n": 129)", "n", "from 1 to 128");
  refuse_field(R"("n": 3, "best_of": 2)", "best_of", "n is 3");
  refuse_field(R"("num_beams": 11)", "num_beams", "from 1 to 10");
  refuse_field(R"("num_beams": 6, "stop_token_ids": [4, 5])", "num_beams", "it may be 5");
  refuse_field(R"("num_beams": 2, "temperature": 1)", "temperature", "does not sample");
  refuse_field(R"("num_beams": 2, "n": 3)", "n", "no more answers");
  refuse_field(R"("num_beams": 2, "n": 1, "best_of": 2)", "best_of", "num_beams");
  refuse_field(R"("num_beams": 2, "logprobs": 1)", "logprobs", "scores instead");
  refuse_field(R"("length_penalty": "x")", "length_penalty", "number");
  refuse_field(R"("early_stopping": 1)", "early_stopping", "never");
  refuse_field(R"("stream": true)", "stream", "not supported");
  refuse_field(R"("suffix": "x")", "suffix", "not supported");
  refuse_field(R"("frequency_penalty": 2.5)", "frequency_penalty", "at most 2");
  refuse_field(R"("presence_penalty": -2.5)", "presence_penalty", "at least -2");
  refuse_field(R"("min_p": 1.5)", "min_p", "at most 1");
  refuse_field(R"("min_tokens": -1)", "min_tokens", "integer");
  refuse_field(R"("min_tokens": 4, "max_tokens": 3)", "min_tokens", "3 tokens");
  refuse_field(R"("no_repeat_ngram_size": 1.5)", "no_repeat_ngram_size", "integer");
  refuse_field(R"("logit_bias": [5])", "logit_bias", "object");
  refuse_field(R"("logit_bias": {"270": 1})", "logit_bias", "269");
  refuse_field(R"("logit_bias": {"05": 1})", "logit_bias", "05");
  refuse_field(R"("logit_bias": {"a": 1})", "logit_bias", "key \"a\"");
  refuse_field(R"("logit_bias": {"5": 101})", "logit_bias", "101");
  refuse_field(R"("logit_bias": {"5": null})", "logit_bias", "null");
  refuse_field(R"("bad_words": "a")", "bad_words", "list");
  refuse_field(R"("bad_words": [""])", "bad_words", "none empty");
  refuse_field(R"("bad_words": [[]])", "bad_words", "none empty");
  refuse_field(R"("bad_words": [3])", "bad_words", "texts");
  refuse_field(R"("bad_words": [[270]])", "bad_words", "269");
  refuse_field(R"("bad_words": [[2]])", "bad_words", "ends answers");
  refuse_field(R"("echo": true, "echo": false)", "echo", "twice");
  EXPECT_EQ(refuse(R"({"prompt": "a", "custom_id": 7})").param, "custom_id");
}

TEST_F(RequestParserTest, RulesOfTokensAreRead) {
  const RequestRow row = accept(
      R"({"prompt": "ab", "logit_bias": {"7": -1.5, "0": 100}, "bad_words": ["ab", " a", [9, 8]],
          "min_tokens": 3, "stop_token_ids": [4], "min_p": 0.25, "frequency_penalty": -0.5,
          "presence_penalty": 1.5, "no_repeat_ngram_size": 3})");
  ASSERT_EQ(row.rules.biases.size(), 2U);
  EXPECT_EQ(row.rules.biases[0].token, 7);
  EXPECT_EQ(row.rules.biases[0].bias, -1.5F);
  const Ids a = {byte_id('a')};
  const Ids blank_a = tokenizer_.encode(" a", false);
  EXPECT_EQ(
      row.rules.banned,
      (std::vector<Ids>{
          tokenizer_.encode("ab", false), tokenizer_.encode(" ab", false), a, blank_a, {9, 8}}));
  EXPECT_EQ(row.rules.ends, (Ids{4, tokenizer_.eos()}));
  EXPECT_EQ(row.sampling.min_tokens, 3);
  EXPECT_EQ(row.sampling.min_p, 0.25F);
  EXPECT_EQ(row.sampling.frequency_penalty, -0.5F);
  EXPECT_EQ(row.sampling.presence_penalty, 1.5F);
  EXPECT_EQ(row.sampling.no_repeat_ngram, 3);
  const stage::Request request = to_request(row, 1);
  EXPECT_EQ(request.sampling.answer_begin, 3);
  EXPECT_EQ(request.rules, encode(row.rules));
  EXPECT_TRUE(accept(R"({"prompt": "ab", "stop_token_ids": [4]})").rules.empty());
  EXPECT_EQ(
      accept(R"({"prompt": "ab", "min_tokens": 1, "ignore_eos": true, "stop_token_ids": [4]})")
          .rules.ends,
      Ids{4});
}

TEST_F(RequestParserTest, RulesThatCannotTravelAreRefused) {
  std::string words;
  for (int i = 0; i < 1022; ++i) words += (i > 0 ? ", [" : "[") + std::to_string(3 + i % 200) + "]";
  EXPECT_EQ(encode(accept("{\"prompt\": \"ab\", \"bad_words\": [" + words + "]}").rules).size(),
            3U + 2 * 1022);
  refuse_field("\"bad_words\": [" + words + ", [1, 2]]", "bad_words", "2050 numbers");
}

TEST_F(RequestParserTest, BadPrompts) {
  for (const char* prompt : {"\"\"", "[]", "null", "3", "{}", "true", "[\"a\"]", "[[1]]", "[1.5]",
                             "[270]", "[-1]", "[1, null]", "[18446744073709551615]"}) {
    EXPECT_EQ(refuse("{\"prompt\": " + std::string(prompt) + "}").param, "prompt") << prompt;
  }
  EXPECT_EQ(refuse("{}").param, "prompt");
}

TEST_F(RequestParserTest, WhatIsNoRow) {
  for (const char* line :
       {"", "x", "{", "[1]", "3", "null", "{\"prompt\": \"a\"} x", "{'prompt': 1}",
        "{\"prompt\": NaN}", "{\"prompt\": \"a\", \"temperature\": NaN}",
        "{\"prompt\": \"a\", \"temperature\": 1e999}", "{\"prompt\": \"\xFF\"}",
        "{\"prompt\": \"\\ud800\"}"}) {
    const RowFailure failure = refuse(line);
    EXPECT_EQ(failure.custom_id, "row-3") << line;
    EXPECT_THAT(failure.message, HasSubstr("line 3: the row is no JSON"));
  }
  EXPECT_THAT(refuse(std::string(100000, '[')).message, HasSubstr("nested"));
  EXPECT_THAT(refuse("{\"prompt\": " + std::string(1000, '{')).message, HasSubstr("no JSON"));
}

TEST_F(RequestParserTest, PromptAndAnswerMustFitThePositions) {
  const std::string prompt(59, 'a');                                    // 60 tokens with BOS
  EXPECT_EQ(accept("{\"prompt\": \"" + prompt + "\"}").max_tokens, 4);  // the default is cut
  EXPECT_EQ(accept("{\"prompt\": \"" + prompt + "\", \"max_tokens\": 4}").max_tokens, 4);
  const RowFailure failure = refuse("{\"prompt\": \"" + prompt + "\", \"max_tokens\": 5}");
  EXPECT_EQ(failure.param, "max_tokens");
  for (const char* part : {"60", "5", "65", "64"}) EXPECT_THAT(failure.message, HasSubstr(part));
  const std::string full(63, 'a');
  EXPECT_EQ(accept("{\"prompt\": \"" + full + "\", \"max_tokens\": 0}").max_tokens, 0);
  EXPECT_EQ(refuse("{\"prompt\": \"" + full + "\"}").param, "prompt");
  EXPECT_EQ(refuse("{\"prompt\": \"a" + full + "\", \"max_tokens\": 0}").param, "prompt");
}

TEST_F(RequestParserTest, TheDefaultSeedIsOfTheRequestAlone) {
  std::set<std::uint64_t> seeds;
  for (std::uint64_t run = 0; run < 10; ++run) {
    for (const char* id : {"a", "b", "row-1", "row-2", ""}) seeds.insert(default_seed(run, id));
  }
  EXPECT_EQ(seeds.size(), 50U);
  EXPECT_EQ(accept(R"({"prompt": "a", "custom_id": "x"})", 1).sampling.seed,
            accept(R"({"custom_id": "x", "prompt": "zz"})", 9).sampling.seed);
  EXPECT_EQ(accept(R"({"prompt": "a", "seed": 7})").sampling.seed, 7U);
  defaults_.sampling.seed = 1;
  RequestParser other(tokenizer_, defaults_, kLimits);
  EXPECT_NE(std::get<RequestRow>(other.parse_json(R"({"prompt": "a", "custom_id": "x"})", 1))
                .sampling.seed,
            accept(R"({"prompt": "a", "custom_id": "x"})").sampling.seed);
}

TEST_F(RequestParserTest, TextRows) {
  auto parsed = parser_.parse_text(" a\u00E9", 9);
  ASSERT_TRUE(std::holds_alternative<RequestRow>(parsed));
  const auto& row = std::get<RequestRow>(parsed);
  EXPECT_EQ(row.custom_id, "row-9");
  EXPECT_EQ(row.naming, Naming::made_up);
  EXPECT_EQ(tokenizer_.decode(row.prompt, true), " a\u00E9");
  parsed = parser_.parse_text(std::string(100, 'a'), 9);
  ASSERT_TRUE(std::holds_alternative<RowFailure>(parsed));
  EXPECT_EQ(std::get<RowFailure>(parsed).param, "prompt");
}

TEST_F(RequestParserTest, BytesThatAreNoTextAreNotAnswered) {
  for (const std::string& bytes :
       {std::string(" a\xFF"), std::string("caf\xE9"), std::string("a\0b", 3)}) {
    const auto parsed = parser_.parse_text(bytes, 9);
    ASSERT_TRUE(std::holds_alternative<RowFailure>(parsed));
    EXPECT_EQ(std::get<RowFailure>(parsed).param, "prompt");
    EXPECT_THAT(std::get<RowFailure>(parsed).message, HasSubstr("UTF-8"));
  }
}

TEST_F(RequestParserTest, ABrokenLineKeepsTheCustomIdThatCanBeRead) {
  const auto id_of = [&](const std::string& line) {
    const RowFailure failure = refuse(line);
    EXPECT_EQ(failure.naming == Naming::given, failure.custom_id != "row-3") << line;
    return failure.custom_id;
  };
  EXPECT_EQ(id_of(R"({"custom_id":"mine","prompt":"a","temperature":NaN})"), "mine");
  EXPECT_EQ(id_of(R"({"custom_id" : "a\"b","max_tokens":1e400})"), "a\"b");
  EXPECT_EQ(id_of(R"({"prompt": [2, "custom_id": "late"})"), "late");
  EXPECT_EQ(id_of(R"({"prompt": "x \"custom_id\": \"no\"")"), "row-3");
  EXPECT_EQ(id_of(R"({"custom_id":"one","custom_id":"two")"), "row-3");
  EXPECT_EQ(id_of(R"({"custom_id":"torn)"), "row-3");
  EXPECT_EQ(id_of(R"({"custom_id":)"), "row-3");
  EXPECT_EQ(id_of(R"({"custom_id": 7, x)"), "row-3");
}

TEST_F(RequestParserTest, APromptThatCannotFitIsRefusedBeforeItIsTokenized) {
  const RowFailure failure = refuse("{\"prompt\": \"" + std::string(1 << 20, 'x') + "\"}");
  EXPECT_EQ(failure.param, "prompt");
  EXPECT_THAT(failure.message, HasSubstr("1048576 bytes"));
}

TEST_F(RequestParserTest, TheModelsFurtherEndIdsEndRowsThatDoNotIgnoreThem) {
  ModelLimits limits = kLimits;
  limits.further_eos = {7, 8};
  defaults_.stop_token_ids = {9};
  RequestParser parser(tokenizer_, defaults_, limits);
  const auto ids_of = [&](const char* line) {
    return std::get<RequestRow>(parser.parse_json(line, 1)).stop_token_ids;
  };
  EXPECT_EQ(ids_of(R"({"prompt": "ab"})"), (Ids{9, 7, 8}));
  EXPECT_EQ(ids_of(R"({"prompt": "ab", "stop_token_ids": [5]})"), (Ids{5, 7, 8}));
  EXPECT_EQ(ids_of(R"({"prompt": "ab", "ignore_eos": true})"), (Ids{9}));
  EXPECT_EQ(std::get<RequestRow>(parser.parse_text("ab", 1)).stop_token_ids, (Ids{9, 7, 8}));
}

TEST_F(RequestParserTest, DefaultsReachTheRow) {
  defaults_.max_new_tokens = 3;
  defaults_.sampling.temperature = 0.5F;
  defaults_.sampling.logprobs = 2;
  defaults_.stop = {"x"};
  defaults_.stop_token_ids = {9};
  defaults_.ignore_eos = true;
  defaults_.skip_special_tokens = false;
  defaults_.echo = true;
  RequestParser parser(tokenizer_, defaults_, kLimits);
  const auto row = std::get<RequestRow>(parser.parse_json(R"({"prompt": "ab"})", 1));
  EXPECT_EQ(row.max_tokens, 3);
  EXPECT_EQ(row.sampling.temperature, 0.5F);
  EXPECT_EQ(row.sampling.logprobs, 2);
  EXPECT_EQ(row.stop, (Strings{"x"}));
  EXPECT_EQ(row.stop_token_ids, (Ids{9}));
  EXPECT_FALSE(row.skip_special);
  EXPECT_TRUE(row.ignore_eos);
  EXPECT_EQ(row.prompt_text, "ab");
}

}  // namespace
}  // namespace sluice::launcher
