// Rows with several answers, or a beam search: several requests, one record.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "launcher/jobs/text_job.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using support::byte_id;
using support::ModelFolder;

class RowWorkTest : public testing::Test {
 protected:
  struct Run {
    Run(const Tokenizer& tokenizer, const std::string& input, CompletionWriter& writer)
        : parser(tokenizer, {}, {tokenizer.table_size(), 64}),
          in(input),
          feed(in, "in.jsonl", parser, RowSorter(writer.take_finished(), {}), true),
          job(tokenizer, feed, {}) {
      job.start(writer, 1);
    }
    RequestParser parser;
    std::istringstream in;
    RowFeed feed;
    TextJob job;
  };
  static std::vector<std::string> lines(const ModelFolder& folder) {
    std::istringstream in(folder.read("out.jsonl"));
    std::vector<std::string> found;
    for (std::string line; std::getline(in, line);) found.push_back(line);
    return found;
  }

  Tokenizer tokenizer_ = support::small_tokenizer();
};

/// All requests that a job has now.
std::vector<stage::Request> requests_of(stage::Job& job) {
  std::vector<stage::Request> requests;
  for (stage::Request next; job.next(next) == stage::Next::request;) requests.push_back(next);
  return requests;
}

TEST_F(RowWorkTest, SeveralAnswersAreOneRecord) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_, R"({"prompt": "ab", "n": 3, "temperature": 1, "max_tokens": 1, "seed": 5})",
          writer);
  const std::vector<stage::Request> requests = requests_of(run.job);
  ASSERT_EQ(requests.size(), 3U);
  std::set<std::uint64_t> seeds;
  for (const stage::Request& one : requests) {
    EXPECT_EQ(one.prompt, requests[0].prompt);
    seeds.insert(one.sampling.seed);
  }
  EXPECT_EQ(seeds.size(), 3U);
  EXPECT_EQ(requests[0].sampling.seed, 5U) << "as the row's with one answer";
  // In another order than they were started.
  for (const std::size_t i : {2U, 0U, 1U}) {
    EXPECT_EQ(lines(folder).size(), 0U);
    EXPECT_TRUE(
        run.job.on_token(requests[i].id, {.token = byte_id('p') + static_cast<std::int32_t>(i)}));
  }
  const json record = json::parse(*lines(folder).begin());
  ASSERT_EQ(record.at("choices").size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const json& choice = record["choices"][i];
    EXPECT_EQ(choice.at("index"), i);
    EXPECT_EQ(choice.at("text"), std::string(1, static_cast<char>('p' + i)));
    EXPECT_EQ(choice.at("finish_reason"), "length");
    EXPECT_FALSE(choice.contains("logprobs"));
  }
  EXPECT_EQ(record.at("usage").at("completion_tokens"), 3);
  EXPECT_EQ(record.at("usage").at("prompt_tokens"), requests[0].prompt.size());
  EXPECT_TRUE(run.job.done());
}

TEST_F(RowWorkTest, TheLikeliestOfSeveralAnswersAreGivenBack) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_,
          "{\"custom_id\": \"a\", \"url\": \"/v1/completions\", \"body\": {\"prompt\": \"ab\", "
          "\"n\": 2, \"best_of\": 4, \"max_tokens\": 2}}\n",
          writer);
  const std::vector<stage::Request> requests = requests_of(run.job);
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(requests[0].sampling.logprobs, 0) << "they are compared by them";
  const float sums[] = {-3.0F, -1.0F, -2.0F, -4.0F};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::int32_t token = byte_id('p') + static_cast<std::int32_t>(i);
    EXPECT_FALSE(run.job.on_token(requests[i].id, {.token = token, .logprob = sums[i]}));
    EXPECT_TRUE(run.job.on_token(requests[i].id, {.token = token, .logprob = 0.0F}));
  }
  const json body = json::parse(*lines(folder).begin()).at("response").at("body");
  ASSERT_EQ(body.at("choices").size(), 2U);
  EXPECT_EQ(body["choices"][0].at("text"), "qq");
  EXPECT_EQ(body["choices"][0].at("index"), 0);
  EXPECT_EQ(body["choices"][1].at("text"), "rr");
  EXPECT_EQ(body["choices"][1].at("index"), 1);
  EXPECT_TRUE(body["choices"][0].at("logprobs").is_null()) << "nobody asked for them";
  EXPECT_EQ(body.at("usage").at("completion_tokens"), 8) << "of all four";
}

TEST_F(RowWorkTest, ARowWithOneAnswerFailedFailsOnce) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_, "{\"prompt\": \"ab\", \"n\": 4, \"max_tokens\": 3}\n{\"prompt\": \"c\"}\n",
          writer);
  stage::Request first;
  stage::Request second;
  stage::Request third;
  ASSERT_EQ(run.job.next(first), stage::Next::request);
  ASSERT_EQ(run.job.next(second), stage::Next::request);
  ASSERT_EQ(run.job.next(third), stage::Next::request);
  EXPECT_FALSE(run.job.on_token(first.id, {.token = byte_id('x')}));
  run.job.on_failed(second.id, "logits are not finite");
  run.job.on_failed(third.id, "logits are not finite");
  EXPECT_FALSE(run.job.on_token(first.id, {.token = byte_id('x')}));
  EXPECT_EQ(lines(folder).size(), 0U) << "a request is under way";
  EXPECT_TRUE(run.job.on_token(first.id, {.token = byte_id('x')}));
  EXPECT_EQ(lines(folder).size(), 1U);
  ASSERT_EQ(run.job.next(first), stage::Next::request);
  EXPECT_EQ(first.prompt.back(), byte_id('c')) << "the fourth answer is not begun";
  EXPECT_EQ(run.job.counts().failed, 1);
}

// A search's steps: each running beam is a request for one token, when those before are back.
TEST_F(RowWorkTest, ABeamSearchAsksStepByStep) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_, "{\"prompt\": \"ab\", \"num_beams\": 2, \"max_tokens\": 2}\n", writer);
  std::vector<stage::Request> requests = requests_of(run.job);
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_TRUE(requests[0].sampling.of_beam);
  EXPECT_EQ(requests[0].sampling.logprobs, 4);
  EXPECT_EQ(requests[0].max_tokens, 1);
  EXPECT_FALSE(run.job.done());
  const std::int32_t x = byte_id('x');
  const stage::Candidate start[] = {{x, -0.5F}, {x + 1, -1.0F}, {x + 2, -5.0F}, {2, -6.0F}};
  EXPECT_TRUE(run.job.on_token(requests[0].id, {.token = x, .logprob = -0.5F, .top = start}));
  requests = requests_of(run.job);
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[1].prompt.back(), x + 1);
  EXPECT_EQ(requests[1].sampling.answer_begin + 1,
            static_cast<std::int32_t>(requests[1].prompt.size()));
  const stage::Candidate worse[] = {{x, -3.0F}, {x + 1, -4.0F}, {x + 2, -5.0F}, {2, -6.0F}};
  EXPECT_TRUE(run.job.on_token(requests[1].id, {.token = x, .logprob = -0.1F, .top = start}));
  EXPECT_TRUE(run.job.on_token(requests[0].id, {.token = x, .logprob = -3.0F, .top = worse}));
  const json record = json::parse(*lines(folder).begin());
  EXPECT_EQ(record.at("text"), "yx");
  EXPECT_FLOAT_EQ(record.at("score").get<float>(), -0.75F);
  EXPECT_EQ(record.at("usage").at("completion_tokens"), 2);
  EXPECT_EQ(requests_of(run.job).size(), 0U);
  EXPECT_TRUE(run.job.done());
}

}  // namespace
}  // namespace sluice::launcher
