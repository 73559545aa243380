#include "stage/grammar_ledger.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "grammar/program.h"
#include "stage/head.h"
#include "tests/support/head_answers.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

SharedGrammar grammar_of(std::size_t bytes, int value) {
  return std::make_shared<const std::vector<std::byte>>(bytes, static_cast<std::byte>(value));
}

TEST(GrammarLedger, EqualGrammarsHaveOneNumberAndAreSentOnce) {
  GrammarLedger ledger(4);
  const std::int32_t first = ledger.take(grammar_of(10, 1));
  EXPECT_EQ(ledger.take(grammar_of(10, 1)), first);
  EXPECT_NE(ledger.take(grammar_of(10, 2)), first);
  EXPECT_EQ(ledger.take(nullptr), -1);
  Pass pass;
  ledger.send(first, pass);
  ledger.send(first, pass);
  ASSERT_EQ(pass.grammars.size(), 1U);
  EXPECT_EQ(pass.grammars[0].number, first);
  EXPECT_EQ(pass.grammar_bytes.size(), 10U);
}

TEST(GrammarLedger, AGrammarThatNoRowHasIsStillKnownUntilItsNumberIsNeeded) {
  GrammarLedger ledger(2);
  const std::int32_t a = ledger.take(grammar_of(10, 1));
  const std::int32_t b = ledger.take(grammar_of(10, 2));
  Pass pass;
  ledger.send(a, pass);
  ledger.send(b, pass);
  ledger.release(a);
  EXPECT_EQ(ledger.take(grammar_of(10, 1)), a);
  Pass second;
  ledger.send(a, second);
  EXPECT_TRUE(second.grammars.empty());
  ledger.release(b);
  EXPECT_EQ(ledger.take(grammar_of(10, 3)), b);
  ledger.send(b, second);
  ASSERT_EQ(second.grammars.size(), 1U);
  ledger.release(a);
  EXPECT_EQ(ledger.take(grammar_of(10, 2)), a);  // its number has another meaning now
}

TEST(GrammarLedger, APassHasRoomForSoManyBytes) {
  GrammarLedger ledger(3);
  const std::size_t half = grammar::kMostProgramBytes / 2;
  const std::int32_t a = ledger.take(grammar_of(half, 1));
  const std::int32_t b = ledger.take(grammar_of(half, 2));
  const std::int32_t c = ledger.take(grammar_of(half, 3));
  Pass pass;
  EXPECT_TRUE(ledger.fits(a, pass));
  ledger.send(a, pass);
  ledger.send(b, pass);
  EXPECT_FALSE(ledger.fits(c, pass));
  EXPECT_TRUE(ledger.fits(a, pass));
  EXPECT_TRUE(ledger.fits(-1, pass));
}

TEST(GrammarAdmission, RowsWaitForAPassWithRoomForTheirGrammar) {
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back(support::request_of(3, 2));
    requests.back().grammar = grammar_of(grammar::kMostProgramBytes - 100, i);
  }
  requests.push_back(support::request_of(3, 2));
  support::ListJob job(requests);
  Batching batching;
  batching.gpu_batch_size = 4;
  batching.micro_batches = 1;
  batching.max_tokens_per_gpu_batch = 32;
  batching.max_sequence_tokens = 64;
  batching.grammars = true;
  Admission admission(job, batching, 1);
  admission.admit_all();
  Pass pass;
  std::vector<std::size_t> new_grammars;
  while (admission.make_pass(0, pass)) {
    for (const PassRow& row : pass.rows) EXPECT_EQ(row.grammar >= 0, row.slot != 3);
    new_grammars.push_back(pass.grammars.size());
    admission.take(pass, support::answer(pass));
  }
  EXPECT_EQ(new_grammars, (std::vector<std::size_t>{1, 1, 1, 0}));
  for (const auto& [id, answered] : job.answers) EXPECT_EQ(answered.tokens.size(), 2U) << id;
}

}  // namespace
}  // namespace sluice::stage
