#include "stage/pass.h"

#include <gtest/gtest.h>

#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

Batching small_batching() {
  Batching batching;
  batching.gpu_batch_size = 3;
  batching.num_gpu_batches = 2;
  batching.max_tokens_per_gpu_batch = 8;
  batching.max_sequence_tokens = 32;
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
  pass.freed = {11, 2};
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
  EXPECT_EQ(read.freed, pass.freed);
}

TEST(PassTest, EveryTruncationIsRefused) {
  std::vector<std::byte> buffer(max_pass_bytes(small_batching(), 2));
  const std::span<const std::byte> whole = encode(sample_pass(), buffer);
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    Pass read;
    EXPECT_THROW(decode(whole.first(bytes), read), CommError) << bytes;
  }
}

TEST(PassTest, FullestPassFits) {
  const Batching batching = small_batching();
  Pass pass;
  pass.rows.resize(6);
  pass.tokens.resize(16);
  pass.batch_tokens.resize(2);
  pass.freed.resize(18);  // all slots of three micro-batches
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
  results.entries.resize(2);
  results.entries[1].slot = 4;
  results.entries[1].result.token = 17;
  results.entries[1].result.top_count = 1;
  results.entries[1].result.top[0] = {17, -0.5F};
  std::vector<std::byte> buffer(max_results_bytes(batching));

  PassResults read;
  decode(encode(results, buffer), read);

  EXPECT_EQ(read.number, 3);
  ASSERT_EQ(read.entries.size(), 2U);
  EXPECT_EQ(read.entries[1].result.token, 17);
  EXPECT_EQ(read.entries[1].result.top[0].logprob, -0.5F);
}

}  // namespace
}  // namespace sluice::stage
