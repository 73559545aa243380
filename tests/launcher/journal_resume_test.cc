// Jobs that end at every token, and go on with their journal: the output is that of a job that
// nobody disturbed, and no token is made twice.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <set>
#include <sstream>

#include "launcher/jobs/journal_facts.h"
#include "launcher/jobs/text_job.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using support::byte_id;
using support::ModelFolder;

const std::string kInput =
    R"({"custom_id": "plain", "prompt": "first", "max_tokens": 9}
{"custom_id": "stop", "prompt": "second", "max_tokens": 20, "stop": ["bc", "ca"], "logprobs": 1}
{"custom_id": "echo", "prompt": "third", "max_tokens": 6, "echo": true, "logprobs": 2}
{"custom_id": "scored", "prompt": "fourth", "max_tokens": 0, "echo": true, "logprobs": 1}
{"custom_id": "fails", "prompt": "fails", "max_tokens": 7}
nonsense
{"custom_id": "token", "prompt": "fifth", "max_tokens": 20, "stop_token_ids": [102]}
{"prompt": "unnamed", "max_tokens": 5}
{"custom_id": "row-8", "prompt": "its name", "max_tokens": 5}
{"custom_id": "long", "prompt": "sixth", "max_tokens": 24, "ignore_eos": true}
)";

/// A model whose next token, and its log-probabilities, depend on all tokens before, and where the
/// row has rules on its seed; two rows at a time. The row "fails" fails at its third token.
class Model {
 public:
  explicit Model(const Tokenizer& tokenizer) : failing_(tokenizer.encode("fails")) {}

  /// Until the job is done, or `most` tokens were made. Returns how many were.
  int run(stage::Job& job, int most) {
    std::vector<stage::Request> rows;
    int made = 0;
    while (true) {
      stage::Request request;
      while (rows.size() < 2 && job.next(request) == stage::Next::request) {
        if (begin(job, request)) rows.push_back(request);
      }
      if (rows.empty()) return made;
      for (std::size_t i = 0; i < rows.size();) {
        if (made == most) return made;
        if (step(job, rows[i], made)) {
          rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
          ++i;
        }
      }
    }
  }

 private:
  static std::uint64_t hash(const std::vector<std::int32_t>& tokens, std::size_t count) {
    std::uint64_t state = 7;
    for (std::size_t i = 0; i < count; ++i) {
      state = (state ^ static_cast<std::uint64_t>(tokens[i])) * 0x9e3779b97f4a7c15U;
      state ^= state >> 29U;
    }
    return state;
  }
  /// The token behind the first `count`.
  static stage::TokenResult result(const stage::Request& row, std::size_t count,
                                   std::vector<stage::Candidate>& top) {
    static const std::int32_t kTokens[] = {
        byte_id('a'),    byte_id('b'),    byte_id('c'), byte_id('b'),
        byte_id('\xc3'), byte_id('\xa9'), byte_id('a'), 2};
    const std::uint64_t answer = row.rules.empty() ? 0 : row.sampling.seed;  // min_tokens
    const std::uint64_t chance = hash(row.prompt, count) ^ answer;
    const float score = -static_cast<float>(chance % 1000) / 7.0F;
    for (int i = 0; i < row.sampling.logprobs; ++i) {
      top.push_back({kTokens[i], score - static_cast<float>(i)});
    }
    return {kTokens[chance / 1000 % 8], row.sampling.logprobs >= 0 ? score : 0.0F, top};
  }
  static bool begin(stage::Job& job, const stage::Request& row) {
    const auto first = static_cast<std::size_t>(row.scores_from);
    for (std::size_t i = first; first > 0 && i < row.prompt.size(); ++i) {
      std::vector<stage::Candidate> top;
      stage::TokenResult scored = result(row, i, top);
      scored.token = row.prompt[i];
      job.on_prompt_token(row.id, static_cast<std::int32_t>(i), scored);
    }
    if (row.max_tokens == 0) job.on_prompt_done(row.id);
    return row.max_tokens > 0;
  }
  bool step(stage::Job& job, stage::Request& row, int& made) const {
    if (row.prompt.size() == failing_.size() + 2 &&
        std::equal(failing_.begin(), failing_.end(), row.prompt.begin())) {
      job.on_failed(row.id, "logits are not finite");
      return true;
    }
    std::vector<stage::Candidate> top;
    const stage::TokenResult token = result(row, row.prompt.size(), top);
    ++made;
    row.prompt.push_back(token.token);
    return job.on_token(row.id, token);
  }

  std::vector<std::int32_t> failing_;
};

class JournalResumeTest : public testing::Test {
 protected:
  struct Outcome {
    int made = 0;
    JobCounts counts;
  };

  /// One run of the job into the folder, which ends after `most` tokens, or when it is done.
  Outcome run(const ModelFolder& folder, Existing existing, int most, double seconds = 3600,
              const std::string& input = kInput) {
    CompletionWriter writer(folder.path() / "out.jsonl", existing);
    JournalOptions options;
    options.path = Journal::path_of(folder.path() / "out.jsonl");
    options.facts = {{"model", "m"}};
    options.vocabulary = tokenizer_.table_size();
    options.seconds = seconds;
    Journal journal(options, existing);
    RequestParser parser(tokenizer_, {}, {tokenizer_.table_size(), 64});
    std::istringstream in(input);
    RowNames names;
    names.look_at(input, 1000);
    FinishedRows finished = writer.take_finished();
    journal.forget([&](std::uint64_t name) { return finished.ids().is_answered(name); });
    RowFeed feed(in, "in.jsonl", parser, RowSorter(std::move(finished), std::move(names)), true);
    TextJob job(tokenizer_, feed, {});
    writer.cut();
    journal.begin([&] { writer.sync(); });
    job.start(writer, 2, &journal);
    Outcome outcome;
    outcome.made = Model(tokenizer_).run(job, most);
    outcome.counts = job.counts();
    EXPECT_TRUE(job.done() || outcome.made == most);
    if (job.done()) journal.remove();
    return outcome;
  }
  static std::multiset<std::string> lines(const ModelFolder& folder) {
    std::istringstream in(folder.read("out.jsonl"));
    std::multiset<std::string> found;
    for (std::string line; std::getline(in, line);) found.insert(line);
    return found;
  }
  static void cut_output(const ModelFolder& folder, std::size_t bytes) {
    const std::string whole = folder.read("out.jsonl");
    folder.write("out.jsonl", whole.substr(0, whole.size() - std::min(whole.size(), bytes)));
  }

  Tokenizer tokenizer_ = support::small_tokenizer();
  static constexpr int kAll = 1'000'000;
};

TEST_F(JournalResumeTest, AJobThatEndsAtAnyTokenGoesOnBehindIt) {
  const ModelFolder undisturbed;
  const Outcome whole = run(undisturbed, Existing::refuse, kAll);
  const std::multiset<std::string> expected = lines(undisturbed);
  ASSERT_EQ(expected.size(), 10U);
  ASSERT_GT(whole.made, 40);
  EXPECT_FALSE(std::filesystem::exists(undisturbed.path() / "out.jsonl.journal"));
  for (int first = 0; first < whole.made; ++first) {
    SCOPED_TRACE(first);
    const ModelFolder folder;
    ASSERT_EQ(run(folder, Existing::refuse, first).made, first);
    const Outcome rest = run(folder, Existing::resume, kAll);
    ASSERT_EQ(lines(folder), expected);
    ASSERT_EQ(rest.made, whole.made - first) << "a token was made twice";
    ASSERT_EQ(rest.counts.failed, whole.counts.failed);
    ASSERT_LE(rest.counts.journal.restored_tokens, rest.counts.journal.recomputed_tokens);
    ASSERT_FALSE(std::filesystem::exists(folder.path() / "out.jsonl.journal"));
  }
}

TEST_F(JournalResumeTest, AJobMayEndAgainAndAgain) {
  const ModelFolder undisturbed;
  const Outcome whole = run(undisturbed, Existing::refuse, kAll);
  for (const int step : {1, 3, 7}) {
    SCOPED_TRACE(step);
    const ModelFolder folder;
    int made = run(folder, Existing::refuse, step).made;
    for (int last = step; last == step;) {
      last = run(folder, Existing::resume, step).made;
      made += last;
    }
    EXPECT_EQ(lines(folder), lines(undisturbed));
    EXPECT_EQ(made, whole.made);
  }
}

TEST_F(JournalResumeTest, AnAnswerWhoseLineIsLostIsMadeOfTheJournal) {
  const ModelFolder undisturbed;
  const Outcome whole = run(undisturbed, Existing::refuse, kAll);
  for (int first = 1; first < whole.made; ++first) {
    for (const std::size_t lost : {1, 100, 100'000}) {  // as a power cut, or a torn line
      const ModelFolder folder;
      run(folder, Existing::refuse, first);
      cut_output(folder, lost);
      const Outcome rest = run(folder, Existing::resume, kAll);
      ASSERT_EQ(lines(folder), lines(undisturbed)) << first << ", " << lost;
      ASSERT_EQ(rest.made, whole.made - first) << first << ", " << lost;
    }
  }
}

TEST_F(JournalResumeTest, AJournalCutAtAnyByteLosesNoRow) {
  const ModelFolder undisturbed;
  const Outcome whole = run(undisturbed, Existing::refuse, kAll);
  const ModelFolder killed;
  const int first = run(killed, Existing::refuse, whole.made - 5).made;
  const std::string journal = killed.read("out.jsonl.journal");
  for (std::size_t cut = 0; cut < journal.size(); cut += 3) {
    const ModelFolder folder;
    folder.write("out.jsonl", killed.read("out.jsonl"));
    folder.write("out.jsonl.journal", journal.substr(0, cut));
    const Outcome rest = run(folder, Existing::resume, kAll);
    ASSERT_EQ(lines(folder), lines(undisturbed)) << cut;
    ASSERT_GE(rest.made, whole.made - first) << cut;
  }
}

// The answers of a row end one after the other; its record is written with the last.
TEST_F(JournalResumeTest, SeveralAnswersOfARowGoOn) {
  const std::string rows =
      "{\"custom_id\": \"n\", \"prompt\": \"ab\", \"n\": 3, \"max_tokens\": 7, \"min_tokens\": 1}\n"
      "{\"custom_id\": \"best\", \"prompt\": \"c\", \"n\": 2, \"best_of\": 3, \"max_tokens\": 5, "
      "\"min_tokens\": 1}\n";
  const ModelFolder undisturbed;
  const Outcome whole = run(undisturbed, Existing::refuse, kAll, 3600, rows);
  ASSERT_EQ(lines(undisturbed).size(), 2U);
  ASSERT_GT(whole.made, 15);
  for (int first = 0; first < whole.made; ++first) {
    const ModelFolder folder;
    ASSERT_EQ(run(folder, Existing::refuse, first, 3600, rows).made, first);
    const Outcome rest = run(folder, Existing::resume, kAll, 3600, rows);
    ASSERT_EQ(lines(folder), lines(undisturbed)) << first;
    ASSERT_EQ(rest.made, whole.made - first) << "a token was made twice";
  }
}

TEST_F(JournalResumeTest, WithoutAJournalRowsAreMadeAnew) {
  const ModelFolder undisturbed;
  run(undisturbed, Existing::refuse, kAll);
  const ModelFolder folder;
  run(folder, Existing::refuse, 20, 0);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "out.jsonl.journal"));
  const Outcome rest = run(folder, Existing::resume, kAll, 0);
  EXPECT_EQ(rest.counts.journal.restored_tokens, 0);
  EXPECT_EQ(lines(folder), lines(undisturbed));
}

RequestRow row() {
  RequestRow row;
  row.line = 3;
  row.custom_id = "a";
  row.prompt = {5, 6};
  row.max_tokens = 9;
  row.stop = {"x"};
  return row;
}

TEST(JournalKey, HasAllThatTokensDependOn) {
  const JournalKey key = journal_key(row());
  EXPECT_EQ(journal_key(row()), key);
  std::set<std::uint64_t> digests = {key.digest};
  const auto change = [&](auto what) {
    RequestRow changed = row();
    what(changed);
    EXPECT_EQ(journal_key(changed).name, key.name);
    EXPECT_TRUE(digests.insert(journal_key(changed).digest).second) << digests.size();
  };
  change([](RequestRow& row) { row.prompt = {5, 7}; });
  change([](RequestRow& row) { row.prompt = {5}; });
  change([](RequestRow& row) { row.max_tokens = 10; });
  change([](RequestRow& row) { row.sampling.temperature = 0.5F; });
  change([](RequestRow& row) { row.sampling.top_k = 4; });
  change([](RequestRow& row) { row.sampling.top_p = 0.5F; });
  change([](RequestRow& row) { row.sampling.repetition_penalty = 1.5F; });
  change([](RequestRow& row) { row.sampling.seed = 1; });
  change([](RequestRow& row) { row.sampling.logprobs = 0; });
  change([](RequestRow& row) { row.sampling.min_p = 0.1F; });
  change([](RequestRow& row) { row.sampling.frequency_penalty = 1.0F; });
  change([](RequestRow& row) { row.sampling.presence_penalty = 1.0F; });
  change([](RequestRow& row) { row.sampling.no_repeat_ngram = 2; });
  change([](RequestRow& row) { row.sampling.min_tokens = 2; });
  change([](RequestRow& row) { row.rules.biases = {{4, 1.0F}}; });
  change([](RequestRow& row) { row.rules.biases = {{4, 2.0F}}; });
  change([](RequestRow& row) { row.rules.banned = {{4, 5}}; });
  change([](RequestRow& row) { row.rules.banned = {{4}, {5}}; });
  change([](RequestRow& row) { row.stop = {"x", "y"}; });
  change([](RequestRow& row) { row.stop = {"x\", \"y"}; });
  change([](RequestRow& row) { row.stop_token_ids = {1}; });
  change([](RequestRow& row) { row.ignore_eos = true; });
  change([](RequestRow& row) { row.echo = true; });
}

TEST(JournalKey, NamesARowAsTheOutputDoes) {
  RequestRow other = row();
  other.custom_id = "b";
  EXPECT_NE(journal_key(other).name, journal_key(row()).name);
  other.naming = Naming::none;
  EXPECT_EQ(journal_key(other).name, key_of_line(3));
}

TEST(JournalFacts, SayWhatMustBeAlike) {
  const auto facts = [](const RunConfig& config, const std::string& input = "folder/rows.jsonl") {
    return journal_facts(config, config.generation, input, 1);
  };
  const RunConfig same;
  EXPECT_EQ(facts(same, "elsewhere/rows.jsonl"), facts(same)) << "a job may move";
  EXPECT_NE(facts(same, "others.jsonl"), facts(same));
  EXPECT_NE(journal_facts(same, {}, "rows.jsonl", 2), facts(same));
  RunConfig placed = same;
  placed.stages.resize(3);
  placed.batching.gpu_batch_size = 2;
  EXPECT_EQ(facts(placed), facts(same)) << "where bytes lie changes no token";
  RunConfig packed = same;
  packed.stage_defaults.policy.compress_weight = offload::Compression::four_bit;
  EXPECT_NE(facts(packed), facts(same));
  RunConfig warm = same;
  warm.generation.sampling.temperature = 0.7F;
  EXPECT_NE(facts(warm), facts(same));
}

}  // namespace
}  // namespace sluice::launcher
