#include "launcher/jobs/text_job.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kernels/device/error.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using support::byte_id;
using support::ModelFolder;

const std::string kInput =
    "{\"custom_id\": \"a\", \"prompt\": \"first\", \"max_tokens\": 3}\n"
    "{\"custom_id\": \"b\", \"prompt\": \"second\", \"max_tokens\": 0, \"echo\": true, "
    "\"logprobs\": 1}\n"
    "{\"custom_id\": \"a\", \"prompt\": \"again\"}\n"
    "nonsense\n"
    "{\"custom_id\": \"c\", \"prompt\": \"third\", \"stop\": \"z\"}\n"
    "{\"custom_id\": \"a\", \"prompt\": \"and again\"}\n"
    "{\"custom_id\": \"d\", \"prompt\": \"fails\"}\n";

/// A pipeline that answers two rows at a time: each token is a letter of the row's own number, the
/// third an EOS; a row whose prompt is "fails" fails.
class Pipeline {
 public:
  explicit Pipeline(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void run(stage::Job& job) {
    std::vector<Row> rows;
    while (true) {
      stage::Request request;
      while (rows.size() < 2 && job.next(request) == stage::Next::request) {
        if (begin(job, request)) rows.push_back({request, 0});
      }
      if (rows.empty()) return;
      std::erase_if(rows, [&](Row& row) { return step(job, row); });
    }
  }

  std::vector<std::string> prompts;

 private:
  struct Row {
    stage::Request request;
    int tokens = 0;
  };
  bool begin(stage::Job& job, const stage::Request& request) {
    prompts.push_back(tokenizer_.decode(request.prompt, true));
    if (prompts.back() == "fails") {
      job.on_failed(request.id, "logits are not finite");
      return false;
    }
    for (std::size_t i = 1; request.prompt_logprobs && i < request.prompt.size(); ++i) {
      job.on_prompt_token(request.id, static_cast<std::int32_t>(i),
                          {.token = request.prompt[i], .logprob = -1});
    }
    if (request.max_tokens == 0) job.on_prompt_done(request.id);
    return request.max_tokens > 0;
  }
  static bool step(stage::Job& job, Row& row) {
    const std::int32_t token =
        ++row.tokens == 3 ? 2
                          : byte_id('k') + static_cast<std::int32_t>(row.request.prompt.size() % 5);
    return job.on_token(row.request.id, {.token = token});
  }

  const Tokenizer& tokenizer_;
};

class TextJobTest : public testing::Test {
 protected:
  Requests requests() {
    RequestParser parser(tokenizer_, {}, {tokenizer_.table_size(), 64});
    std::istringstream in(kInput);
    return read_requests(in, "in.jsonl", parser);
  }
  /// One run over kInput into out.jsonl; returns its counts.
  JobCounts run(const ModelFolder& folder, Existing existing) {
    CompletionWriter writer(folder.path() / "out.jsonl", existing);
    TextJob job(tokenizer_, requests(), {});
    job.skip_finished(writer.finished());
    job.start(writer);
    Pipeline(tokenizer_).run(job);
    return job.counts();
  }
  static std::multiset<std::string> lines(const ModelFolder& folder) {
    std::istringstream in(folder.read("out.jsonl"));
    std::multiset<std::string> found;
    for (std::string line; std::getline(in, line);) found.insert(line);
    return found;
  }

  Tokenizer tokenizer_ = support::small_tokenizer();
};

TEST_F(TextJobTest, AnswersEveryRowOnce) {
  const ModelFolder folder;
  const JobCounts counts = run(folder, Existing::refuse);
  EXPECT_EQ(counts.answered, 3);
  EXPECT_EQ(counts.failed, 4);
  EXPECT_EQ(counts.skipped, 0);
  EXPECT_EQ(counts.completion_tokens, 6);
  std::map<std::string, json> first;
  for (const std::string& line : lines(folder)) {
    const json record = json::parse(line);
    first.emplace(record.at("custom_id"), record);
  }
  EXPECT_EQ(lines(folder).size(), 7U);
  EXPECT_EQ(first.size(), 5U);
  EXPECT_EQ(first.at("b").at("text"), "second");
  EXPECT_EQ(first.at("b").at("logprobs").at("token_logprobs")[1], -1.0);
  EXPECT_EQ(first.at("c").at("token_ids").size(), 3U);
  EXPECT_EQ(first.at("d").at("error").at("message"), "logits are not finite");
  EXPECT_EQ(first.at("row-4").at("line"), 4);
}

TEST_F(TextJobTest, RefusedRowsAreInTheOutputBeforeTheRun) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  TextJob job(tokenizer_, requests(), {});
  job.start(writer);
  EXPECT_EQ(lines(folder).size(), 3U);
}

TEST_F(TextJobTest, TheScanSaysWhatTheRunNeeds) {
  TextJob job(tokenizer_, requests(), {});
  const JobScan scan = job.scan();
  EXPECT_EQ(scan.rows, 4);
  EXPECT_EQ(scan.bad_rows, 3);
  EXPECT_EQ(scan.longest_prompt, 7);         // "second" and BOS
  EXPECT_EQ(scan.longest_sequence, 6 + 32);  // "third", "fails": the default max_tokens
  EXPECT_EQ(scan.prompt_tokens, 6 + 7 + 6 + 6);
  EXPECT_EQ(scan.max_completion_tokens, 3 + 0 + 32 + 32);
}

TEST_F(TextJobTest, ResumeAfterACutAtEveryByte) {
  const ModelFolder undisturbed;
  const JobCounts counts = run(undisturbed, Existing::refuse);
  const std::multiset<std::string> expected = lines(undisturbed);
  const std::string whole = undisturbed.read("out.jsonl");
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    const ModelFolder folder;
    folder.write("out.jsonl", whole.substr(0, cut));
    const JobCounts again = run(folder, Existing::resume);
    ASSERT_EQ(lines(folder), expected) << cut;
    ASSERT_EQ(again.failed, counts.failed) << cut;
    ASSERT_EQ(again.skipped,
              std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut), '\n'))
        << cut;
  }
}

TEST_F(TextJobTest, ResumeRunsNothingTwice) {
  const ModelFolder folder;
  run(folder, Existing::refuse);
  const std::string whole = folder.read("out.jsonl");
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::resume);
  TextJob job(tokenizer_, requests(), {});
  job.skip_finished(writer.finished());
  EXPECT_EQ(job.scan().rows, 0);
  EXPECT_EQ(job.scan().bad_rows, 0);
  EXPECT_EQ(job.scan().skipped_rows, 7);
  job.start(writer);
  Pipeline pipeline(tokenizer_);
  pipeline.run(job);
  EXPECT_TRUE(pipeline.prompts.empty());
  EXPECT_EQ(folder.read("out.jsonl"), whole);
}

TEST_F(TextJobTest, AFullDiskStopsTheJob) {
  CompletionWriter writer("/dev/full", Existing::refuse);
  TextJob job(tokenizer_, requests(), {});
  EXPECT_THROW(job.start(writer), CapacityError);
}

TEST_F(TextJobTest, TheModelsEosCountsBeforeTheTokenizers) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  TextJob job(tokenizer_, requests(), {.eos = 9, .form = {}});
  job.start(writer);
  stage::Request request;
  ASSERT_EQ(job.next(request), stage::Next::request);
  EXPECT_FALSE(job.on_token(request.id, {.token = 2}));
  EXPECT_TRUE(job.on_token(request.id, {.token = 9}));
}

}  // namespace
}  // namespace sluice::launcher
