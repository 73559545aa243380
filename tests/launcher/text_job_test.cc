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
    const auto first = static_cast<std::size_t>(request.scores_from);
    for (std::size_t i = first; first > 0 && i < request.prompt.size(); ++i) {
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
  /// A job over some rows, that goes on with what `writer` found.
  struct Run {
    Run(const Tokenizer& tokenizer, const std::string& input, CompletionWriter& writer,
        const TextJobOptions& options = {})
        : parser(tokenizer, {}, {tokenizer.table_size(), 64}),
          in(input),
          feed(in, "in.jsonl", parser, sorter(input, writer), true),
          job(tokenizer, feed, options) {
      job.start(writer, 2);
    }
    static RowSorter sorter(const std::string& input, CompletionWriter& writer) {
      RowNames names;
      names.look_at(input, 1000);
      return RowSorter(writer.take_finished(), std::move(names));
    }
    RequestParser parser;
    std::istringstream in;
    RowFeed feed;
    TextJob job;
  };
  /// One run over `input` into out.jsonl; returns its counts.
  JobCounts run(const ModelFolder& folder, Existing existing, const std::string& input = kInput) {
    CompletionWriter writer(folder.path() / "out.jsonl", existing);
    Run run(tokenizer_, input, writer);
    Pipeline(tokenizer_).run(run.job);
    return run.job.counts();
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

const std::string kScored =
    "{\"custom_id\": \"a\", \"prompt\": \"first\", \"choices\": [\"x\", \"yz\", \"no\"]}\n"
    "{\"custom_id\": \"b\", \"prompt\": \"second\", \"max_tokens\": 3}\n"
    "{\"custom_id\": \"c\", \"prompt\": \"fail\", \"choices\": [\"ed\", \"s\", \"x\", \"y\"]}\n";

TEST_F(TextJobTest, ARowOfSeveralRequestsHasOneRecord) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run scored(tokenizer_, kScored, writer);
  Pipeline pipeline(tokenizer_);
  pipeline.run(scored.job);
  const JobCounts counts = scored.job.counts();
  EXPECT_EQ(counts.answered, 2);
  EXPECT_EQ(counts.failed, 1);
  EXPECT_EQ(counts.written, 3);
  EXPECT_TRUE(scored.job.done());
  // A row that fails has no further requests.
  EXPECT_EQ(pipeline.prompts, (std::vector<std::string>{"firstx", "firstyz", "firstno", "second",
                                                        "failed", "fails"}));
  std::map<std::string, json> records;
  for (const std::string& line : lines(folder)) {
    const json record = json::parse(line);
    records.emplace(record.at("custom_id"), record);
  }
  ASSERT_EQ(records.size(), 3U);
  const json& scores = records.at("a").at("scores");
  ASSERT_EQ(scores.size(), 3U);
  EXPECT_EQ(scores[0].at("token_logprobs"), json::parse("[-1]"));
  EXPECT_EQ(scores[1].at("logprob"), -2.0);
  EXPECT_EQ(records.at("a").at("best"), 0);
  EXPECT_EQ(records.at("a").at("usage").at("choice_tokens"), 5);
  EXPECT_EQ(records.at("c").at("error").at("message"), "logits are not finite");
}

TEST_F(TextJobTest, ARowOfSeveralRequestsIsAnsweredWholeAfterACutAtEveryByte) {
  const ModelFolder undisturbed;
  run(undisturbed, Existing::refuse, kScored);
  const std::multiset<std::string> expected = lines(undisturbed);
  const std::string whole = undisturbed.read("out.jsonl");
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    const ModelFolder folder;
    folder.write("out.jsonl", whole.substr(0, cut));
    run(folder, Existing::resume, kScored);
    ASSERT_EQ(lines(folder), expected) << cut;
  }
}

/// Whichever of a row's requests fails, and however many others are under way.
TEST_F(TextJobTest, ARequestThatFailsIsTheRowsFailure) {
  for (std::size_t failing = 0; failing < 3; ++failing) {
    const ModelFolder folder;
    CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
    Run scored(tokenizer_, kScored, writer);
    std::vector<stage::Request> requests(3);
    for (stage::Request& request : requests) {
      ASSERT_EQ(scored.job.next(request), stage::Next::request);
    }
    scored.job.on_failed(requests[failing].id, "broken");
    EXPECT_EQ(lines(folder).size(), 0U) << "others of the row are under way";
    for (std::size_t i = 0; i < 3; ++i) {
      if (i != failing) scored.job.on_prompt_done(requests[i].id);
    }
    ASSERT_EQ(lines(folder).size(), 1U);
    EXPECT_EQ(json::parse(*lines(folder).begin()).at("error").at("message"), "broken");
    stage::Request next;
    ASSERT_EQ(scored.job.next(next), stage::Next::request);
    EXPECT_EQ(tokenizer_.decode(next.prompt, true), "second");
    EXPECT_THROW(scored.job.on_prompt_done(requests[0].id), std::logic_error);
  }
}

TEST_F(TextJobTest, ARefusedRowIsWrittenInItsTurn) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_, kInput, writer);
  stage::Request request;
  ASSERT_EQ(run.job.next(request), stage::Next::request);
  ASSERT_EQ(run.job.next(request), stage::Next::request);
  EXPECT_EQ(lines(folder).size(), 0U);
  ASSERT_EQ(run.job.next(request), stage::Next::request);
  EXPECT_EQ(lines(folder).size(), 2U) << "the two before it";
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

TEST_F(TextJobTest, ResumeRunsNoAnswerTwice) {
  const ModelFolder folder;
  const JobCounts first = run(folder, Existing::refuse);
  const std::string whole = folder.read("out.jsonl");
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::resume);
  Run again(tokenizer_, kInput, writer);
  Pipeline pipeline(tokenizer_);
  pipeline.run(again.job);
  // What failed is tried again, and what fails as it did leaves no second record.
  EXPECT_EQ(pipeline.prompts, (std::vector<std::string>{"fails"}));
  EXPECT_EQ(folder.read("out.jsonl"), whole);
  EXPECT_EQ(again.job.counts().failed, first.failed);
  EXPECT_EQ(again.job.counts().skipped, 7);
  EXPECT_EQ(again.job.counts().written, 0);
}

TEST_F(TextJobTest, RowsThatWereMendedAreAnsweredByResume) {
  const ModelFolder folder;
  const std::string good = "{\"custom_id\": \"a\", \"prompt\": \"first\"}\n";
  const std::string before = good +
                             "{\"custom_id\": \"b\", \"prompt\": \"x\", \"max_tokens\": 999}\n"
                             "{\"prompt\": \"third\", \"max_tokens\": \"4\"}\n"
                             "{\"custom_id\": \"d\", \"prompt\": 4}\n";
  const std::string mended = good +
                             "{\"custom_id\": \"b\", \"prompt\": \"x\"}\n"
                             "{\"prompt\": \"third\"}\n"
                             "{\"custom_id\": \"d\", \"prompt\": 5}\n";
  EXPECT_EQ(run(folder, Existing::refuse, before).failed, 3);
  const JobCounts counts = run(folder, Existing::resume, mended);
  EXPECT_EQ(counts.answered, 2);
  EXPECT_EQ(counts.failed, 1) << "in another way than before";
  EXPECT_EQ(counts.skipped, 1);
  std::map<std::string, json> last;
  std::istringstream in(folder.read("out.jsonl"));
  for (std::string line; std::getline(in, line);) {
    const json record = json::parse(line);
    last[record.at("custom_id")] = record;
  }
  for (const char* id : {"a", "b", "row-3"}) EXPECT_TRUE(last.at(id).contains("text")) << id;
  EXPECT_TRUE(last.at("d").contains("error"));
  // And once more: nothing is left to do but what is still wrong.
  const std::string whole = folder.read("out.jsonl");
  EXPECT_EQ(run(folder, Existing::resume, mended).failed, 1);
  EXPECT_EQ(folder.read("out.jsonl"), whole);
}

TEST_F(TextJobTest, ARowWithoutAPossibleNameIsFoundAgainByItsLine) {
  const ModelFolder folder;
  const std::string input =
      "torn\n{\"custom_id\": \"row-1\", \"prompt\": \"x\"}\n"
      "{\"prompt\": \"unnamed\"}\n{\"custom_id\": \"row-3\", \"prompt\": \"y\"}\n";
  EXPECT_EQ(run(folder, Existing::refuse, input).answered, 3);
  const std::multiset<std::string> whole = lines(folder);
  std::set<std::string> names;
  for (const std::string& line : whole) names.insert(json::parse(line).at("custom_id").dump());
  EXPECT_EQ(names, (std::set<std::string>{"null", "\"row-1\"", "\"row-3\""}));
  EXPECT_EQ(run(folder, Existing::resume, input).written, 0);
  EXPECT_EQ(lines(folder), whole);
}

TEST_F(TextJobTest, ARowLongerThanTheRunIsMadeForFailsAlone) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_,
          "{\"custom_id\": \"a\", \"prompt\": \"ab\", \"max_tokens\": 8}\n"
          "{\"custom_id\": \"b\", \"prompt\": \"ab\", \"max_tokens\": 7}\n",
          writer, {.eos = -1, .form = {}, .longest_sequence = 10});
  Pipeline(tokenizer_).run(run.job);
  EXPECT_EQ(run.job.counts().answered, 1);
  EXPECT_EQ(run.job.counts().failed, 1);
}

TEST_F(TextJobTest, AFullDiskStopsTheJob) {
  CompletionWriter writer("/dev/full", Existing::refuse);
  Run run(tokenizer_, "nonsense\n", writer);
  stage::Request request;
  EXPECT_THROW(run.job.next(request), CapacityError);
}

TEST_F(TextJobTest, TheModelsEosCountsBeforeTheTokenizers) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  Run run(tokenizer_, kInput, writer, {.eos = 9, .form = {}, .longest_sequence = 0});
  stage::Request request;
  ASSERT_EQ(run.job.next(request), stage::Next::request);
  EXPECT_FALSE(run.job.on_token(request.id, {.token = 2}));
  EXPECT_TRUE(run.job.on_token(request.id, {.token = 9}));
}

}  // namespace
}  // namespace sluice::launcher
