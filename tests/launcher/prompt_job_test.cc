#include "launcher/jobs/prompt_job.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "kernels/device/error.h"
#include "launcher/jobs/request_parser.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using support::byte_id;

RequestRow row_of(const Tokenizer& tokenizer, const GenerationDefaults& defaults) {
  RequestParser parser(tokenizer, defaults, {tokenizer.table_size(), 64});
  return std::get<RequestRow>(parser.parse_text("two\nlines", 1));
}

TEST(PromptJob, PrintsTheAnswer) {
  const Tokenizer tokenizer = support::small_tokenizer();
  std::ostringstream out;
  PromptJob job(tokenizer, row_of(tokenizer, {}), -1, out);
  EXPECT_EQ(job.scan().rows, 1);
  EXPECT_EQ(job.scan().longest_sequence, 10 + 32);
  stage::Request request;
  ASSERT_EQ(job.next(request), stage::Next::request);
  EXPECT_EQ(tokenizer.decode(request.prompt, true), "two\nlines");
  EXPECT_EQ(job.next(request), stage::Next::no_more);
  EXPECT_FALSE(job.on_token(0, {.token = byte_id('x')}));
  EXPECT_EQ(out.str(), "");
  EXPECT_TRUE(job.on_token(0, {.token = 2}));
  EXPECT_EQ(out.str(), "x\n");
  EXPECT_EQ(job.failure(), "");
}

TEST(PromptJob, EchoAndNoTokens) {
  const Tokenizer tokenizer = support::small_tokenizer();
  std::ostringstream out;
  GenerationDefaults defaults;
  defaults.echo = true;
  defaults.max_new_tokens = 0;
  PromptJob job(tokenizer, row_of(tokenizer, defaults), -1, out);
  stage::Request request;
  ASSERT_EQ(job.next(request), stage::Next::request);
  job.on_prompt_done(0);
  EXPECT_EQ(out.str(), "two\nlines\n");
}

TEST(PromptJob, FailuresAreTold) {
  const Tokenizer tokenizer = support::small_tokenizer();
  std::ostringstream out;
  PromptJob job(tokenizer, row_of(tokenizer, {}), -1, out);
  job.on_failed(0, "logits are not finite");
  EXPECT_EQ(job.failure(), "logits are not finite");
  out.setstate(std::ios::badbit);
  EXPECT_THROW(job.on_prompt_done(0), IoError);
}

TEST(DummyJob, PromptsAreDistinctInRangeAndTheSameEachTime) {
  const DummyPrompts prompts = {
      .count = 50, .prompt_len = 3, .gen_len = 2, .vocabulary = 60, .seed = 5};
  std::set<std::vector<std::int32_t>> seen;
  DummyJob job(prompts);
  DummyJob again(prompts);
  stage::Request request;
  stage::Request same;
  while (job.next(request) == stage::Next::request) {
    ASSERT_EQ(again.next(same), stage::Next::request);
    EXPECT_EQ(request.prompt, same.prompt);
    EXPECT_EQ(request.prompt.size(), 3U);
    EXPECT_EQ(request.max_tokens, 2);
    for (const std::int32_t token : request.prompt) {
      EXPECT_GE(token, kFirstOrdinaryToken);
      EXPECT_LT(token, 60);
    }
    EXPECT_TRUE(seen.insert(request.prompt).second);
    EXPECT_FALSE(job.on_token(request.id, {.token = 2}));  // EOS ends nothing
    EXPECT_TRUE(job.on_token(request.id, {.token = 2}));
  }
  EXPECT_EQ(seen.size(), 50U);
  EXPECT_EQ(job.answered(), 50);
  EXPECT_EQ(job.scan().rows, 50);
  EXPECT_EQ(job.scan().longest_sequence, 5);
}

TEST(DummyJob, OneTokenPromptsAreDistinctToo) {
  DummyJob job({.count = 56, .prompt_len = 1, .gen_len = 1, .vocabulary = 60, .seed = 0});
  std::set<std::vector<std::int32_t>> seen;
  stage::Request request;
  while (job.next(request) == stage::Next::request) EXPECT_TRUE(seen.insert(request.prompt).second);
  EXPECT_EQ(seen.size(), 56U);
}

TEST(DummyJob, FailuresAreCounted) {
  DummyJob job({.count = 1, .prompt_len = 1, .gen_len = 2, .vocabulary = 60, .seed = 0});
  stage::Request request;
  ASSERT_EQ(job.next(request), stage::Next::request);
  job.on_failed(request.id, "x");
  EXPECT_EQ(job.failed(), 1);
}

}  // namespace
}  // namespace sluice::launcher
