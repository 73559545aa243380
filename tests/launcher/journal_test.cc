#include "launcher/jobs/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/error.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using support::ModelFolder;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

const std::vector<JournalFact> kFacts = {{"input", "rows.jsonl"}, {"model", "m"}, {"seed", "7"}};

class JournalTest : public testing::Test {
 protected:
  JournalOptions options() const {
    JournalOptions options;
    options.path = folder_.path() / "out.jsonl.journal";
    options.facts = kFacts;
    options.vocabulary = 1000;
    options.seconds = 3600;  // the thread writes the first tokens, the test the others
    return options;
  }
  /// A journal with rows 1 (two tokens), 2 (none yet) and 3 (one token).
  void make_journal() const {
    Journal journal(options(), Existing::refuse);
    journal.begin([] {});
    std::uint32_t numbers[4] = {};
    for (const std::uint64_t row : {1, 2, 3}) {
      numbers[row] = journal.start({row, row}, 0).number;
    }
    add(journal, numbers[1], 10);
    add(journal, numbers[3], 30);
    add(journal, numbers[1], 11);
  }
  static void add(Journal& journal, std::uint32_t number, std::int32_t token) {
    journal.add(number, JournalToken::plain, {token, 0, {}});
  }
  static std::vector<std::int32_t> answer(const Journal::Start& start) {
    std::vector<std::int32_t> tokens;
    for (const ScoredToken& one : start.made.answer) tokens.push_back(one.token);
    return tokens;
  }
  std::string bytes() const { return folder_.read("out.jsonl.journal"); }
  JournalContent content() const { return read_journal(bytes(), 1000).value(); }
  std::string refusal(Existing existing, const std::vector<JournalFact>& facts = kFacts) const {
    JournalOptions other = options();
    other.facts = facts;
    try {
      const Journal journal(other, existing);
    } catch (const ConfigError& problem) {
      return problem.what();
    }
    return {};
  }

  ModelFolder folder_;
};

TEST_F(JournalTest, AResumeGoesOnBehindTheTokens) {
  make_journal();
  Journal journal(options(), Existing::resume);
  EXPECT_THAT(journal.damage(), IsEmpty());
  EXPECT_EQ(journal.unused(), 3U);
  EXPECT_EQ(journal.unused_tokens(), 3);
  journal.begin([] {});
  const Journal::Start first = journal.start({1, 1}, 0);
  EXPECT_TRUE(first.again);
  EXPECT_EQ(answer(first), (std::vector{10, 11}));
  const Journal::Start second = journal.start({2, 2}, 0);
  EXPECT_TRUE(second.again);
  EXPECT_THAT(answer(second), IsEmpty());
  const Journal::Start fourth = journal.start({4, 4}, 0);
  EXPECT_FALSE(fourth.again);
  add(journal, first.number, 12);
  add(journal, fourth.number, 40);
  journal.flush();
  const JournalContent made = content();
  ASSERT_EQ(made.rows.size(), 4U);
  std::map<std::uint64_t, std::int64_t> tokens;
  for (const JournalRow& row : made.rows) tokens[row.key.name] = row.tokens;
  EXPECT_EQ(tokens, (std::map<std::uint64_t, std::int64_t>{{1, 3}, {2, 0}, {3, 1}, {4, 1}}));
  EXPECT_EQ(journal.unused(), 1U) << "row 3";
}

TEST_F(JournalTest, AChangedRowIsAnotherRow) {
  make_journal();
  Journal journal(options(), Existing::resume);
  const Journal::Start changed = journal.start({1, 9}, 0);
  EXPECT_FALSE(changed.again);
  EXPECT_THAT(answer(changed), IsEmpty());
}

TEST_F(JournalTest, TokensWithOtherPromptResultsThanTheRowHasAreNotUsed) {
  make_journal();
  Journal journal(options(), Existing::resume);
  journal.begin([] {});
  const Journal::Start start = journal.start({1, 1}, 2);
  EXPECT_TRUE(start.again);
  EXPECT_THAT(answer(start), IsEmpty());
  add(journal, start.number, 99);
  journal.flush();
  for (const JournalRow& row : content().rows) {
    if (row.key.name != 1) continue;
    EXPECT_EQ(decode_tokens(row.entries).answer[0].token, 99);
  }
}

TEST_F(JournalTest, WhatTheOutputHasIsForgotten) {
  make_journal();
  Journal journal(options(), Existing::resume);
  journal.forget([](std::uint64_t name) { return name == 1; });
  EXPECT_EQ(journal.unused(), 2U);
  journal.begin([] {});
  const JournalContent left = content();
  ASSERT_EQ(left.rows.size(), 2U) << "a resume makes the file anew";
  for (const JournalRow& row : left.rows) EXPECT_NE(row.key.name, 1U);
}

TEST_F(JournalTest, NothingIsTouchedBeforeItBegins) {
  make_journal();
  const std::string before = bytes();
  for (const Existing existing : {Existing::resume, Existing::overwrite}) {
    { const Journal journal(options(), existing); }
    EXPECT_EQ(bytes(), before);
  }
  EXPECT_THAT(refusal(Existing::refuse),
              AllOf(HasSubstr("3 tokens"), HasSubstr("--resume"), HasSubstr("--overwrite")));
  EXPECT_EQ(bytes(), before);
  Journal journal(options(), Existing::overwrite);
  journal.begin([] {});
  EXPECT_THAT(content().rows, IsEmpty());
}

TEST_F(JournalTest, OneWithoutTokensIsInNobodysWay) {
  {
    Journal journal(options(), Existing::refuse);
    journal.begin([] {});
    journal.start({1, 1}, 0);
  }
  EXPECT_THAT(refusal(Existing::refuse), IsEmpty());
}

TEST_F(JournalTest, AnotherJobIsRefusedByName) {
  make_journal();
  for (std::size_t i = 0; i < kFacts.size(); ++i) {
    std::vector<JournalFact> facts = kFacts;
    facts[i].value = "other";
    EXPECT_THAT(
        refusal(Existing::resume, facts),
        AllOf(HasSubstr("another " + kFacts[i].name), HasSubstr("'" + kFacts[i].value + "'"),
              HasSubstr("'other'"), HasSubstr("remove the journal")));
    EXPECT_THAT(refusal(Existing::overwrite, facts), IsEmpty());
  }
  folder_.write("out.jsonl.journal", "notes of somebody");
  for (const Existing existing : {Existing::refuse, Existing::resume, Existing::overwrite}) {
    EXPECT_THROW(Journal(options(), existing), InputError);
  }
}

TEST_F(JournalTest, APipeHasNoNameToCompare) {
  JournalOptions of_pipe = options();
  of_pipe.facts.erase(of_pipe.facts.begin());
  {
    Journal journal(of_pipe, Existing::refuse);
    journal.begin([] {});
    add(journal, journal.start({1, 1}, 0).number, 10);
  }
  Journal journal(options(), Existing::resume);
  EXPECT_EQ(journal.unused_tokens(), 1);
}

TEST_F(JournalTest, ADamagedEndIsSaidAndLeftOut) {
  make_journal();
  const std::string whole = bytes();
  folder_.write("out.jsonl.journal", whole.substr(0, whole.size() - 1));
  Journal journal(options(), Existing::resume);
  EXPECT_THAT(journal.damage(), HasSubstr("out.jsonl.journal: a record is cut off"));
  EXPECT_LT(journal.unused_tokens(), 3);
  journal.begin([] {});
  EXPECT_EQ(content().bytes, bytes().size()) << "what was made anew is whole";
}

TEST_F(JournalTest, ItDoesNotGrowForEver) {
  JournalOptions small = options();
  small.slack_bytes = 4096;
  int synced = 0;
  Journal journal(small, Existing::refuse);
  journal.begin([&] { ++synced; });
  const std::uint32_t kept = journal.start({1, 1}, 0).number;
  add(journal, kept, 5);
  for (std::uint64_t row = 2; row < 2000; ++row) {
    const std::uint32_t number = journal.start({row, row}, 0).number;
    for (int i = 0; i < 10; ++i) add(journal, number, i);
    if (row % 100 == 0) journal.flush();
    journal.done(number);
  }
  add(journal, kept, 6);
  journal.flush();
  EXPECT_LT(bytes().size(), 3 * small.slack_bytes);
  EXPECT_GT(synced, 1) << "the output is on the disk before rows leave the journal";
  std::int64_t tokens = 0;
  for (const JournalRow& row : content().rows) tokens += row.key.name == 1 ? row.tokens : 0;
  EXPECT_EQ(tokens, 2) << "a row under way keeps its tokens";
}

TEST_F(JournalTest, TheThreadWritesWhatComesAfterAPause) {
  JournalOptions often = options();
  often.seconds = 0.001;
  Journal journal(often, Existing::refuse);
  journal.begin([] {});
  const std::uint32_t number = journal.start({1, 1}, 0).number;
  for (std::int32_t token = 1; token <= 20; ++token) {
    add(journal, number, token);
    // The test ends only if each token comes to the file by itself.
    while (content().rows.empty() || content().rows[0].tokens < token) std::this_thread::yield();
  }
}

TEST_F(JournalTest, WithoutWritingItStillReads) {
  make_journal();
  const std::string before = bytes();
  JournalOptions silent = options();
  silent.seconds = 0;
  {
    Journal journal(silent, Existing::resume);
    journal.begin([] { ADD_FAILURE() << "nothing is made anew"; });
    const Journal::Start first = journal.start({1, 1}, 0);
    EXPECT_EQ(answer(first), (std::vector{10, 11}));
    add(journal, first.number, 12);
    add(journal, journal.start({5, 5}, 0).number, 50);
    journal.flush();
    journal.done(first.number);
    EXPECT_EQ(bytes(), before);
    journal.remove();
  }
  EXPECT_FALSE(std::filesystem::exists(silent.path));
}

TEST_F(JournalTest, RemoveLeavesNothing) {
  make_journal();
  folder_.write("out.jsonl.journal.new", "left by a killed run");
  Journal journal(options(), Existing::resume);
  journal.begin([] {});
  add(journal, journal.start({5, 5}, 0).number, 50);
  journal.remove();
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  journal.write();
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(JournalTest, AJobGoesOnWithoutAJournalThatCannotBeWritten) {
  JournalOptions nowhere = options();
  nowhere.path = folder_.path() / "gone" / "out.jsonl.journal";
  Journal journal(nowhere, Existing::refuse);
  testing::internal::CaptureStderr();
  journal.begin([] {});
  const std::uint32_t number = journal.start({1, 1}, 0).number;
  add(journal, number, 1);
  journal.flush();
  journal.done(number);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("sluice: cannot write the journal"), HasSubstr("the job goes on")));
}

}  // namespace
}  // namespace sluice::launcher
