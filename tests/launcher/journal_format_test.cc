#include "launcher/jobs/journal_format.h"

#include <gtest/gtest.h>

#include "tests/support/file_bytes.h"

namespace sluice::launcher {
namespace {

constexpr std::int32_t kVocabulary = 100;
const std::vector<JournalFact> kFacts = {{"model", "m"}, {"seed", ""}};
const std::vector<stage::Candidate> kTop = {{7, -0.25F}, {8, -1.5F}};

std::string token(JournalToken kind, std::int32_t id) {
  std::string entries;
  encode_token(kind, {id, -0.5F, kTop}, entries);
  return entries;
}

/// Three records behind the facts, and where each of the four ends.
struct Sample {
  Sample() {
    JournalRecords records;
    records.begin(kFacts);
    end(records.take());
    records.start(0, {11, 12});
    records.add(0, token(JournalToken::plain, 1) + token(JournalToken::plain, 2));
    end(records.take());
    records.start(1, {21, 22});
    records.add(1, token(JournalToken::prompt, 3) + token(JournalToken::scored, 4));
    records.add(0, token(JournalToken::plain, 5));
    end(records.take());
    records.add(0, token(JournalToken::plain, 6));
    end(records.take());
  }
  void end(const std::string& record) {
    bytes += record;
    ends.push_back(bytes.size());
  }
  std::string bytes;
  std::vector<std::size_t> ends;
};

std::vector<std::int32_t> ids(const std::vector<ScoredToken>& tokens) {
  std::vector<std::int32_t> found;
  for (const ScoredToken& one : tokens) found.push_back(one.token);
  return found;
}

/// The answers so far, row by row, after so many whole records.
std::vector<std::vector<std::int32_t>> answers_after(std::size_t records) {
  if (records <= 1) return {};
  if (records == 2) return {{1, 2}};
  return {records == 3 ? std::vector{1, 2, 5} : std::vector{1, 2, 5, 6}, {4}};
}

void expect_records(const JournalContent& content, const Sample& sample, std::size_t records) {
  EXPECT_EQ(content.bytes, records == 0 ? content.bytes : sample.ends[records - 1]);
  EXPECT_EQ(content.facts, records == 0 ? std::vector<JournalFact>() : kFacts);
  std::vector<std::vector<std::int32_t>> answers;
  for (const JournalRow& row : content.rows) {
    answers.push_back(ids(decode_tokens(row.entries).answer));
    EXPECT_EQ(row.tokens, static_cast<std::int64_t>(answers.back().size()));
  }
  EXPECT_EQ(answers, answers_after(records));
}

TEST(JournalFormat, WhatWasWrittenIsRead) {
  const Sample sample;
  const auto content = read_journal(sample.bytes, kVocabulary);
  ASSERT_TRUE(content);
  expect_records(*content, sample, 4);
  EXPECT_EQ(content->rows[0].key, (JournalKey{11, 12}));
  EXPECT_EQ(content->rows[1].key, (JournalKey{21, 22}));
  const MadeTokens made = decode_tokens(content->rows[1].entries);
  ASSERT_EQ(ids(made.prompt), std::vector{3});
  for (const ScoredToken& one : {made.prompt[0], made.answer[0]}) {
    EXPECT_EQ(one.logprob, -0.5F);
    ASSERT_EQ(one.top.size(), 2U);
    EXPECT_EQ(one.top[1].token, 8);
    EXPECT_EQ(one.top[1].logprob, -1.5F);
  }
  const MadeTokens plain = decode_tokens(content->rows[0].entries);
  EXPECT_EQ(plain.answer[0].logprob, 0.0F) << "nobody asked for it";
}

TEST(JournalFormat, ACutAtEveryByteLosesWhatIsBehindTheLastWholeRecord) {
  const Sample sample;
  for (std::size_t cut = 0; cut <= sample.bytes.size(); ++cut) {
    SCOPED_TRACE(cut);
    const auto content = read_journal(sample.bytes.substr(0, cut), kVocabulary);
    ASSERT_TRUE(content);
    std::size_t whole = 0;
    while (whole < sample.ends.size() && sample.ends[whole] <= cut) ++whole;
    expect_records(*content, sample, whole);
  }
}

TEST(JournalFormat, AFlippedBitInEveryByteIsNoticed) {
  const Sample sample;
  for (std::size_t at = 0; at < sample.bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE(testing::Message() << "bit " << bit << " of byte " << at);
      std::string bytes = sample.bytes;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const auto content = read_journal(bytes, kVocabulary);
      constexpr std::size_t kMagicBytes = 8;
      ASSERT_EQ(content.has_value(), at >= kMagicBytes);
      if (!content) continue;
      std::size_t whole = 0;
      while (sample.ends[whole] <= at) ++whole;
      expect_records(*content, sample, whole);
    }
  }
}

TEST(JournalFormat, ChangedFilesAreReadAsFarAsTheyAreWhole) {
  const Sample sample;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    const std::string changed = support::mutated(sample.bytes, seed);
    const auto content = read_journal(changed, kVocabulary);
    if (!content) continue;
    std::size_t whole = 0;
    while (whole < sample.ends.size() && sample.ends[whole] <= content->bytes) ++whole;
    expect_records(*content, sample, whole);
  }
}

TEST(JournalFormat, ARecordTwiceOrOutOfItsPlaceEndsTheJournal) {
  const Sample sample;
  std::vector<std::string> records;
  std::size_t begin = 0;
  for (const std::size_t end : sample.ends) {
    records.push_back(sample.bytes.substr(begin, end - begin));
    begin = end;
  }
  const auto expect_whole = [&](const std::vector<std::size_t>& order, std::size_t whole) {
    std::string bytes;
    for (const std::size_t record : order) bytes += records[record];
    const auto content = read_journal(bytes, kVocabulary);
    ASSERT_TRUE(content);
    expect_records(*content, sample, whole);
  };
  expect_whole({0, 1, 1, 2, 3}, 2);
  expect_whole({0, 1, 2, 2, 3}, 3);
  expect_whole({0, 1, 2, 3, 3}, 4);
  expect_whole({0, 2, 3}, 1);
  expect_whole({0, 1, 3}, 2);
  expect_whole({0, 1, 3, 2}, 2);
}

TEST(JournalFormat, OfTwoStartsOfARowTheLaterCounts) {
  JournalRecords records;
  records.begin(kFacts);
  records.start(0, {1, 1});
  records.add(0, token(JournalToken::plain, 3));
  records.start(1, {1, 1});
  records.add(0, token(JournalToken::plain, 4));
  records.add(1, token(JournalToken::plain, 5));
  const std::string bytes = records.take();
  const auto content = read_journal(bytes, kVocabulary);
  ASSERT_TRUE(content);
  EXPECT_EQ(content->bytes, bytes.size());
  ASSERT_EQ(content->rows.size(), 1U);
  EXPECT_EQ(ids(decode_tokens(content->rows[0].entries).answer), std::vector{5});
}

TEST(JournalFormat, RecordsAreClosedWhenTheyAreLong) {
  JournalRecords records;
  records.begin(kFacts);
  records.start(0, {1, 1});
  constexpr int kTokens = 100'000;
  for (int i = 0; i < kTokens; ++i) records.add(0, token(JournalToken::plain, i % kVocabulary));
  const std::string bytes = records.take();
  const auto content = read_journal(bytes.substr(0, bytes.size() - 1), kVocabulary);
  ASSERT_TRUE(content);
  ASSERT_EQ(content->rows.size(), 1U);
  EXPECT_GT(content->rows[0].tokens, kTokens / 2);
  EXPECT_LT(content->rows[0].tokens, kTokens);
}

TEST(JournalFormat, EntriesThatMakeNoSenseAreDamage) {
  const auto is_damage = [](const std::function<void(JournalRecords&)>& fill) {
    JournalRecords records;
    records.begin(kFacts);
    std::string bytes = records.take();
    const std::size_t sense = bytes.size();
    fill(records);
    bytes += records.take();
    const auto content = read_journal(bytes, kVocabulary);
    return content && content->bytes == sense && content->facts == kFacts;
  };
  EXPECT_TRUE(is_damage([](auto& records) { records.add(0, token(JournalToken::plain, 1)); }))
      << "a row that has not started";
  EXPECT_TRUE(is_damage([](auto& records) {
    records.start(0, {1, 1});
    records.start(0, {2, 2});
  })) << "a number twice";
  for (const std::int32_t id : {-1, kVocabulary}) {
    EXPECT_TRUE(is_damage([&](auto& records) {
      records.start(0, {1, 1});
      records.add(0, token(JournalToken::plain, id));
    })) << id;
  }
  EXPECT_TRUE(is_damage([](auto& records) {
    std::string entries;
    encode_token(JournalToken::scored, {1, 0, std::vector<stage::Candidate>{{kVocabulary, 0}}},
                 entries);
    records.start(0, {1, 1});
    records.add(0, entries);
  })) << "a likeliest token outside the vocabulary";
  EXPECT_TRUE(is_damage([](auto& records) {
    const std::vector<stage::Candidate> many(stage::kMaxLogprobs + 1);
    std::string entries;
    encode_token(JournalToken::scored, {1, 0, many}, entries);
    records.start(0, {1, 1});
    records.add(0, entries);
  })) << "more of them than anybody can ask for";
  EXPECT_TRUE(is_damage([](auto& records) {
    records.start(0, {1, 1});
    records.add(0, "?");
  })) << "a letter that nothing has";
}

TEST(JournalFormat, OtherFilesAreNone) {
  EXPECT_FALSE(read_journal("{\"custom_id\": \"a\"}\n", kVocabulary));
  EXPECT_FALSE(read_journal("SLUICEJ2", kVocabulary));
  EXPECT_TRUE(read_journal("", kVocabulary));
}

}  // namespace
}  // namespace sluice::launcher
