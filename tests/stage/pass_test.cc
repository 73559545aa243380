#include "stage/pass.h"

#include <gtest/gtest.h>

#include <cstring>

#include "grammar/program.h"
#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

Batching small_batching() {
  Batching batching;
  batching.gpu_batch_size = 3;
  batching.num_gpu_batches = 2;
  batching.max_tokens_per_gpu_batch = 8;
  batching.max_sequence_tokens = 32;
  batching.max_rule_words = 7;
  batching.grammars = true;
  return batching;
}

Pass sample_pass() {
  Pass pass;
  pass.number = 41;
  pass.micro_batch = 2;
  PassRow row;
  row.slot = 7;
  row.position = 5;
  row.new_tokens = 3;
  row.sample = true;
  row.sampling.temperature = 0.5F;
  row.sampling.seed = 99;
  pass.rows = {row, row};
  pass.tokens = {1, 2, 3, 4, 5, 6};
  pass.batch_tokens = {3, 3};
  pass.rules = {5, 6, 7};
  pass.grammars = {{3, 2}};
  pass.grammar_bytes = {std::byte{8}, std::byte{9}};
  pass.freed = {11, 2};
  pass.dropped = {4};
  pass.kept = {9, 10, 12};
  return pass;
}

TEST(PassTest, ReadsWhatWasWritten) {
  std::vector<std::byte> buffer(max_pass_bytes(small_batching(), 2));
  const Pass pass = sample_pass();

  Pass read;
  decode(encode(pass, buffer), read);

  EXPECT_EQ(read.number, 41);
  EXPECT_EQ(read.micro_batch, 2);
  EXPECT_FALSE(read.end);
  ASSERT_EQ(read.rows.size(), 2U);
  EXPECT_EQ(read.rows[1].slot, 7);
  EXPECT_EQ(read.rows[1].sampling.seed, 99U);
  EXPECT_EQ(read.tokens, pass.tokens);
  EXPECT_EQ(read.batch_tokens, pass.batch_tokens);
  EXPECT_EQ(read.rules, pass.rules);
  ASSERT_EQ(read.grammars.size(), 1U);
  EXPECT_EQ(read.grammars[0].number, 3);
  EXPECT_EQ(read.grammar_bytes, pass.grammar_bytes);
  EXPECT_EQ(read.freed, pass.freed);
  EXPECT_EQ(read.dropped, pass.dropped);
  EXPECT_EQ(read.kept, pass.kept);
}

TEST(PassTest, EveryTruncationIsRefused) {
  std::vector<std::byte> buffer(max_pass_bytes(small_batching(), 2));
  const std::span<const std::byte> whole = encode(sample_pass(), buffer);
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    Pass read;
    EXPECT_THROW(decode(whole.first(bytes), read), CommError) << bytes;
  }
}

TEST(PassTest, ACountOfWhatIsNotThereTakesNoMemory) {
  std::vector<std::byte> buffer(max_pass_bytes(small_batching(), 2));
  const std::size_t size = encode(sample_pass(), buffer).size();
  constexpr std::size_t kCounts = 16;  // behind number, micro_batch and end: nine of 32 bits
  for (std::size_t count = 0; count < 9; ++count) {
    for (const std::int32_t claimed : {INT32_MAX, -1}) {
      std::vector<std::byte> changed = buffer;
      std::memcpy(changed.data() + kCounts + 4 * count, &claimed, sizeof claimed);
      Pass read;
      EXPECT_THROW(decode(std::span<const std::byte>(changed).first(size), read), CommError);
    }
  }
}

TEST(PassTest, FullestPassFits) {
  const Batching batching = small_batching();
  Pass pass;
  pass.rows.resize(6);
  pass.tokens.resize(16);
  pass.batch_tokens.resize(2);
  pass.rules.resize(6 * 7);
  pass.grammars.resize(6);
  pass.grammar_bytes.resize(grammar::kMostProgramBytes);
  pass.freed.resize(18);  // all slots of three micro-batches
  pass.dropped.resize(static_cast<std::size_t>(most_prefixes(batching, 2)));
  pass.kept.resize(2 * 6 + 1);  // what 16 tokens fill, and pages before these
  std::vector<std::byte> buffer(max_pass_bytes(batching, 2));

  EXPECT_EQ(encode(pass, buffer).size(), buffer.size());
  pass.tokens.push_back(1);
  EXPECT_THROW(encode(pass, buffer), CommError);
}

TEST(PassTest, ResultsReadAsWritten) {
  const Batching batching = small_batching();
  PassResults results;
  results.number = 3;
  results.micro_batch = 1;
  const Candidate two[] = {{17, -0.5F}, {3, -1.5F}};
  results.add(0, 2, {9, -2.0F, std::span(two).first(1)});
  results.add(4, -1, {17, -0.5F, two});
  results.add(5, -1, {});
  std::vector<std::byte> buffer(max_results_bytes(batching));

  PassResults read;
  decode(encode(results, buffer), read);

  EXPECT_EQ(read.number, 3);
  ASSERT_EQ(read.entries.size(), 3U);
  EXPECT_EQ(read.entries[0].prompt_index, 2);
  EXPECT_EQ(read.entries[1].slot, 4);
  const TokenResult result = read.result_of(read.entries[1]);
  EXPECT_EQ(result.token, 17);
  ASSERT_EQ(result.top.size(), 2U);
  EXPECT_EQ(result.top[0].logprob, -0.5F);
  EXPECT_EQ(result.top[1].token, 3);
  EXPECT_TRUE(read.entries[2].failed());
  EXPECT_TRUE(read.result_of(read.entries[2]).top.empty());
}

TEST(PassTest, ResultsWithoutCandidatesAreSmall) {
  PassResults results;
  results.entries.resize(1);
  std::vector<std::byte> buffer(max_results_bytes(small_batching()));
  const std::size_t one = encode(results, buffer).size();
  results.entries.resize(2);
  EXPECT_EQ(encode(results, buffer).size() - one, sizeof(PassResult));
  EXPECT_LE(sizeof(PassResult), 24U);
}

TEST(PassTest, EmbeddingsReadAsWrittenAndTheMostOfThemFit) {
  Batching batching = small_batching();
  const std::size_t without = max_results_bytes(batching);
  batching.features = 5;
  EXPECT_EQ(max_results_bytes(batching), without + 6 * (sizeof(std::int32_t) + 5 * sizeof(float)));
  PassResults results;
  results.embedded = {7, 2};
  results.features = {1, 2, 3, 4, 5, -1, -2, -3, -4, -5};
  std::vector<std::byte> buffer(max_results_bytes(batching));

  PassResults read;
  const std::span<const std::byte> bytes = encode(results, buffer);
  decode(bytes, read);
  EXPECT_EQ(read.embedded, results.embedded);
  EXPECT_EQ(read.features, results.features);
  EXPECT_EQ(read.features_of(1).front(), -1.0F);
  EXPECT_EQ(read.features_of(1).size(), 5U);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(decode(bytes.first(size), read), CommError) << size;
  }
  results.features.pop_back();
  EXPECT_THROW(decode(encode(results, buffer), read), CommError);
  results.embedded.clear();
  EXPECT_THROW(decode(encode(results, buffer), read), CommError);
}

TEST(PassTest, ResultsThatNameCandidatesOfNobodyAreRefused) {
  PassResults results;
  results.entries.resize(1);
  results.entries[0].candidate_count = 1;
  std::vector<std::byte> buffer(max_results_bytes(small_batching()));
  PassResults read;
  EXPECT_THROW(decode(encode(results, buffer), read), CommError);
}

}  // namespace
}  // namespace sluice::stage
