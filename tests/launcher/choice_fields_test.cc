// Rows with choices: how prompt and choices become tokens, and what is refused.
#include "launcher/jobs/choice_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/jobs/request_parser.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using support::byte_id;
using support::kFirstMerge;
using testing::ElementsAre;
using testing::HasSubstr;

class ChoiceFieldsTest : public testing::Test {
 protected:
  // Token kFirstMerge is "ya", the next " a", the next "ab".
  Tokenizer tokenizer_ = support::small_tokenizer({{"y", "a"}, {" ", "a"}, {"a", "b"}});
  GenerationDefaults defaults_;

  ParsedRow parse(const std::string& line) {
    RequestParser parser(tokenizer_, defaults_, {tokenizer_.table_size(), 16});
    return parser.parse_json(line, 1);
  }
  RequestRow row(const std::string& line) {
    const ParsedRow parsed = parse(line);
    const auto* failure = std::get_if<RowFailure>(&parsed);
    if (failure != nullptr) ADD_FAILURE() << failure->message;
    return failure != nullptr ? RequestRow() : std::get<RequestRow>(parsed);
  }
  RowFailure failure(const std::string& line) {
    const ParsedRow parsed = parse(line);
    const auto* found = std::get_if<RowFailure>(&parsed);
    if (found == nullptr) ADD_FAILURE() << line << " was taken";
    return found == nullptr ? RowFailure() : *found;
  }
};

TEST_F(ChoiceFieldsTest, TheContextIsEncodedApartAndTheRestOfTheWholeIsTheChoices) {
  const RequestRow made = row(R"({"prompt": "xz", "choices": ["ab", "bz"]})");
  EXPECT_THAT(made.prompt, ElementsAre(2, byte_id('x'), byte_id('z')));
  ASSERT_EQ(made.choices.size(), 2U);
  EXPECT_EQ(made.choices[0].text, "ab");
  EXPECT_THAT(made.choices[0].tokens, ElementsAre(kFirstMerge + 2));
  EXPECT_THAT(made.choices[1].tokens, ElementsAre(byte_id('b'), byte_id('z')));
  EXPECT_EQ(made.max_tokens, 0);
  EXPECT_FALSE(made.wants_logprobs());
}

TEST_F(ChoiceFieldsTest, WhiteSpaceAtTheContextsEndBelongsToTheChoices) {
  const RequestRow made = row(R"({"prompt": "x ", "choices": ["ab", "z"]})");
  EXPECT_THAT(made.prompt, ElementsAre(2, byte_id('x')));
  EXPECT_EQ(made.choices[0].text, "ab");
  EXPECT_THAT(made.choices[0].tokens, ElementsAre(kFirstMerge + 1, byte_id('b')));
  EXPECT_THAT(made.choices[1].tokens, ElementsAre(byte_id(' '), byte_id('z')));
  // Of everything that Python calls white space: a no-break space, and a separator of files.
  const RequestRow odd = row(R"({"prompt": "x\n\u00a0\u001c", "choices": ["z"]})");
  EXPECT_THAT(odd.prompt, ElementsAre(2, byte_id('x')));
  EXPECT_THAT(odd.choices[0].tokens, ElementsAre(byte_id('\n'), byte_id('\xC2'), byte_id('\xA0'),
                                                 byte_id('\x1C'), byte_id('z')));
}

// lm-eval counts the context's tokens off the whole's; a token over the border is the context's.
TEST_F(ChoiceFieldsTest, ATokenOverTheBorderIsCountedAsTheContexts) {
  const RequestRow made = row(R"({"prompt": "xy", "choices": ["ab"]})");
  EXPECT_THAT(made.prompt, ElementsAre(2, byte_id('x'), byte_id('y')));
  EXPECT_THAT(made.choices[0].tokens, ElementsAre(byte_id('b')));
  EXPECT_THAT(failure(R"({"prompt": "xy", "choices": ["z", "a"]})").message,
              HasSubstr("choices[1] has no token of its own behind the prompt"));
}

TEST_F(ChoiceFieldsTest, AContextWithoutTokensIsTheBeginToken) {
  for (const char* line :
       {R"({"prompt": "", "choices": ["z"]})", R"({"prompt": "  ", "choices": ["z"]})"}) {
    const RequestRow made = row(line);
    EXPECT_THAT(made.prompt, ElementsAre(2)) << line;
    EXPECT_EQ(made.choices[0].tokens.back(), byte_id('z')) << line;
  }
}

TEST_F(ChoiceFieldsTest, IdsAreTakenAsTheyAre) {
  const RequestRow made = row(R"({"prompt": [7, 8], "choices": [[101], [102, 103]]})");
  EXPECT_THAT(made.prompt, ElementsAre(7, 8));
  EXPECT_THAT(made.choices[1].tokens, ElementsAre(102, 103));
  EXPECT_EQ(made.choices[0].text, "a");
}

TEST_F(ChoiceFieldsTest, EachChoiceIsARequestThatScoresItAlone) {
  defaults_.sampling.temperature = 2;
  defaults_.sampling.logprobs = 3;
  const RequestRow made = row(R"({"prompt": [7, 8], "choices": [[101], [102, 103]]})");
  ASSERT_EQ(parts_of(made), 2U);
  const stage::Request request = to_request(made, 40, 1);
  EXPECT_EQ(request.id, 40U);
  EXPECT_THAT(request.prompt, ElementsAre(7, 8, 102, 103));
  EXPECT_EQ(request.scores_from, 2);
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.sampling.logprobs, -1);
  EXPECT_EQ(longest_request(made), 3) << "the last token is only asked for";
  JobScan scan;
  add_to_scan(made, scan);
  EXPECT_EQ(scan.longest_sequence, 3);
  ASSERT_EQ(scan.looked_at.size(), 2U) << "a sequence for each choice";
  EXPECT_EQ(scan.looked_at[0].prompt, 2);
  EXPECT_EQ(scan.looked_at[0].shared, 0);
  EXPECT_EQ(scan.looked_at[1].prompt, 3);
  EXPECT_EQ(scan.looked_at[1].shared, 2);
  add_to_scan(made, scan);
  EXPECT_EQ(scan.looked_at[2].shared, 2) << "the row before begins alike";
  EXPECT_EQ(scan.sequences_of(7), 14);
}

TEST_F(ChoiceFieldsTest, AnEmbeddingIsAPromptWithoutAnAnswer) {
  defaults_.sampling.temperature = 2;
  defaults_.sampling.logprobs = 3;
  const RequestRow made = row(R"({"prompt": [7, 8], "embed": "mean", "max_tokens": 0})");
  EXPECT_EQ(made.embed, stage::Embed::mean);
  ASSERT_EQ(parts_of(made), 1U);
  const stage::Request request = to_request(made, 4);
  EXPECT_EQ(request.embed, stage::Embed::mean);
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.scores_from, 0);
  EXPECT_EQ(request.sampling.logprobs, -1);
  JobScan scan;
  EXPECT_FALSE(scan.features);
  add_to_scan(made, scan);
  EXPECT_TRUE(scan.features);
  EXPECT_EQ(row(R"({"prompt": "x", "embed": "last"})").embed, stage::Embed::last);
  EXPECT_EQ(row(R"({"prompt": "x", "embed": null})").embed, stage::Embed::none);
}

TEST_F(ChoiceFieldsTest, WhatHasNoPlaceBesideAnEmbeddingIsRefusedByName) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"prompt": "x", "embed": "max"})", "embed", R"("mean" or "last")"},
      {R"({"prompt": "x", "embed": true})", "embed", R"("mean" or "last")"},
      {R"({"prompt": "x", "embed": "last", "choices": ["z"]})", "embed", "choices or embed"},
      {R"({"prompt": "x", "embed": "last", "max_tokens": 5})", "max_tokens", "has no answer"},
      {R"({"prompt": "x", "embed": "last", "n": 2})", "n", "has no answer"},
      {R"({"prompt": "x", "embed": "last", "echo": true})", "echo", "has no answer"},
      {R"({"prompt": "x", "embed": "last", "regex": "a"})", "regex", "a row with embed"},
      {R"({"prompt": "", "embed": "last"})", "prompt", "the prompt is empty"},
      {R"({"embed": "last"})", "prompt", "the row has no prompt"},
      {R"({"prompt": "xxxxxxxxxxxxxxxxxxxxxxx", "embed": "last"})", "prompt", "16 positions"},
  };
  for (const auto& [line, param, part] : cases) {
    const RowFailure found = failure(line);
    EXPECT_EQ(found.param, param) << line;
    EXPECT_THAT(found.message, HasSubstr(part)) << line;
  }
}

TEST_F(ChoiceFieldsTest, WhatCannotBeScoredIsRefusedByName) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"prompt": "x", "choices": []})", "choices", "a list of texts"},
      {R"({"prompt": "x", "choices": "z"})", "choices", "a list of texts"},
      {R"({"prompt": "x", "choices": ["z", 7]})", "choices[1]", "it must be a text"},
      {R"({"prompt": "x", "choices": ["z", ""]})", "choices[1]", "it must be a text"},
      {R"({"prompt": [7], "choices": ["z"]})", "choices[0]", "a list of token ids"},
      {R"({"prompt": [7], "choices": [[]]})", "choices[0]", "a list of token ids"},
      {R"({"prompt": [7], "choices": [[5, 9999]]})", "choices[0]", "from 0 to 262"},
      {R"({"choices": ["z"]})", "prompt", "the row has no prompt"},
      {R"({"prompt": "x", "choices": ["z"], "max_tokens": 5})", "max_tokens", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "echo": true})", "echo", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "stop": "."})", "stop", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "logprobs": 2})", "logprobs", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "regex": "a+"})", "regex", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "choice": ["a"]})", "choice", "has no answer"},
      {R"({"prompt": "x", "choices": ["z"], "response_format": {"type": "json_object"}})",
       "response_format", "has no answer"},
      {R"({"prompt": "xxxxxxxxxxxxxxx", "choices": ["zz", "z"]})", "prompt",
       "the prompt has 16 tokens, and with its longest choice 17, but the model has 16"},
  };
  for (const auto& [line, param, message] : cases) {
    const RowFailure made = failure(line);
    EXPECT_EQ(made.param, param) << line;
    EXPECT_THAT(made.message, HasSubstr(message)) << line;
  }
  EXPECT_THAT(row(R"({"prompt": "x", "choices": ["z"], "max_tokens": 0, "echo": false,
                      "logprobs": 0, "stop": null})")
                  .choices,
              testing::SizeIs(1));
}

}  // namespace
}  // namespace sluice::launcher
