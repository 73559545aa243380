// The head with guesses: answers are what they are without, whatever is guessed; a row's guesses
// respect its end, its GPU batch and its pages.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <utility>

#include "stage/head.h"
#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

constexpr std::int32_t kPageTokens = 4;

/// What the model says at a position of a request: any function will do, as long as it is one.
std::int32_t said(std::int32_t first_token, std::int64_t position) {
  return static_cast<std::int32_t>((first_token * 31 + position * 7) % 11);
}

/// Results as the last stage would give them. The first token of a prompt names its request.
class Model {
 public:
  PassResults answer(const Pass& pass) {
    PassResults results;
    results.number = pass.number;
    results.micro_batch = pass.micro_batch;
    const std::int32_t* tokens = pass.tokens.data();
    for (const PassRow& row : pass.rows) {
      if (row.position == 0) first_[row.slot] = tokens[0];
      for (std::int32_t ahead = row.sample ? row.drafted : -1; ahead >= 0; --ahead) {
        const std::int32_t following = row.new_tokens - ahead;
        const std::int32_t token = said(first_[row.slot], row.position + following);
        results.add(row.slot, -1, {token, 0.0F, {}});
        if (ahead > 0 && tokens[following] != token) break;
      }
      tokens += row.new_tokens;
    }
    return results;
  }

 private:
  std::map<std::int32_t, std::int32_t> first_;  // by slot
};

/// Right with some probability, token by token.
class SomeDrafter : public Drafter {
 public:
  explicit SomeDrafter(double right, std::uint64_t seed = 1) : right_(right), random_(seed) {}
  void draft(std::span<DraftRow> rows) override {
    for (DraftRow& row : rows) {
      EXPECT_GE(row.guesses.size(), 1U);
      const auto known = static_cast<std::int64_t>(row.tokens.size());
      std::int64_t i = 0;
      for (std::int32_t& guess : row.guesses) {
        const bool right = std::uniform_real_distribution<>()(random_) < right_;
        guess = right ? said(row.tokens[0], known + i) : 11;
        ++i;
      }
      row.count = static_cast<std::int32_t>(row.guesses.size());
    }
  }

 private:
  double right_;
  std::mt19937_64 random_;
};

Batching batching_of(std::int32_t size, std::int32_t draft_tokens, std::int32_t max_tokens = 64) {
  Batching batching;
  batching.gpu_batch_size = size;
  batching.micro_batches = 1;
  batching.max_tokens_per_gpu_batch = max_tokens;
  batching.max_sequence_tokens = 60;
  batching.draft_tokens = draft_tokens;
  batching.draft_adapts = false;
  return batching;
}

std::vector<Request> requests_of(std::size_t count, std::int32_t max_tokens) {
  std::vector<Request> requests(count);
  for (std::size_t i = 0; i < count; ++i) {
    requests[i].prompt.assign(3 + i % 6, static_cast<std::int32_t>(i));
    requests[i].max_tokens = max_tokens;
  }
  return requests;
}

struct Ran {
  std::int32_t passes = 0;
  std::uint64_t drafted = 0;
  std::uint64_t accepted = 0;
  std::uint64_t stepped_back = 0;
  std::vector<std::vector<std::int32_t>> tokens;
};

Ran run(const std::vector<Request>& requests, const Batching& batching, Drafter& drafter,
        PageLedger ledger = {}, const std::function<void(const Pass&)>& look = {},
        std::int32_t eos = -1) {
  support::ListJob job(requests, eos);
  Admission admission(job, batching, 1, std::move(ledger), &drafter);
  Model model;
  Ran made;
  Pass pass;
  admission.admit_all();
  while (admission.make_pass(0, pass)) {
    pass.number = made.passes++;
    if (look) look(pass);
    admission.take(pass, model.answer(pass));
    admission.admit(0);
    if (made.passes > 5000) ADD_FAILURE() << "no end";
    if (made.passes > 5000) break;
  }
  EXPECT_TRUE(admission.is_done());
  for (const auto& [id, answer] : job.answers) made.tokens.push_back(answer.tokens);
  EXPECT_EQ(made.tokens.size(), requests.size());
  made.drafted = admission.drafted_tokens();
  made.accepted = admission.accepted_tokens();
  made.stepped_back = admission.stepped_back();
  return made;
}

TEST(DraftAdmission, RightGuessesSaveTheirPasses) {
  SomeDrafter right(1);
  const std::vector<Request> requests = requests_of(2, 13);
  const Ran without = run(requests, batching_of(2, 0), right);
  const Ran with = run(requests, batching_of(2, 3), right);
  EXPECT_EQ(with.tokens, without.tokens);
  EXPECT_EQ(without.passes, 13);
  EXPECT_EQ(with.passes, 4) << "a prompt with its token, and three times four tokens";
  EXPECT_EQ(with.drafted, 18U);
  EXPECT_EQ(with.accepted, 18U);
}

TEST(DraftAdmission, WrongGuessesChangeNothing) {
  SomeDrafter wrong(0);
  const std::vector<Request> requests = requests_of(3, 13);
  const Ran without = run(requests, batching_of(2, 0), wrong);
  const Ran with = run(requests, batching_of(2, 3), wrong);
  EXPECT_EQ(with.tokens, without.tokens);
  EXPECT_EQ(with.passes, without.passes);
  EXPECT_GT(with.drafted, 0U);
  EXPECT_EQ(with.accepted, 0U);
}

TEST(DraftAdmission, SomeGuessesOfManyKindsChangeNothing) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SomeDrafter some(0.1 * static_cast<double>(seed % 10), seed);
    const std::vector<Request> requests = requests_of(9, 1 + static_cast<std::int32_t>(seed % 40));
    const auto drafted = 1 + static_cast<std::int32_t>(seed % 7);
    const auto size = 1 + static_cast<std::int32_t>(seed % 4);
    const std::int32_t eos = seed % 3 == 0 ? static_cast<std::int32_t>(seed % 11) : -1;
    const Ran without = run(requests, batching_of(size, 0), some, {}, {}, eos);
    const Ran with = run(requests, batching_of(size, drafted), some, {}, {}, eos);
    EXPECT_EQ(with.tokens, without.tokens) << seed;
    EXPECT_LE(with.passes, without.passes) << seed;
  }
}

TEST(DraftAdmission, AnAnswerMayEndWithinItsGuesses) {
  SomeDrafter right(1);
  std::vector<Request> requests = requests_of(1, 30);
  std::int32_t eos = said(0, 3 + 7);  // the eighth token; there is none of it before
  const Ran with = run(requests, batching_of(1, 5), right, {}, {}, eos);
  ASSERT_EQ(with.tokens[0].size(), 8U);
  EXPECT_EQ(with.passes, 3) << "1, 6 and 1 tokens";
  eos = said(0, 3 + 3);
  const Ran within = run(requests, batching_of(1, 5), right, {}, {}, eos);
  EXPECT_EQ(within.tokens[0].size(), 4U);
  EXPECT_EQ(within.passes, 2);
  EXPECT_EQ(within.accepted, 2U) << "of the five right guesses, those that the answer has";
}

TEST(DraftAdmission, NoRowIsGuessedBehindItsEndOrItsGpuBatch) {
  SomeDrafter right(1);
  const auto look = [](const Pass& pass) {
    EXPECT_LE(pass.batch_tokens[0], 16);
    for (const PassRow& row : pass.rows) {
      EXPECT_LE(row.position + row.new_tokens, row.total);
      EXPECT_LT(row.drafted, row.new_tokens);
      EXPECT_TRUE(row.sample || row.drafted == 0);
    }
  };
  const std::vector<Request> requests = requests_of(10, 10);
  const Ran without = run(requests, batching_of(5, 0, 16), right);
  EXPECT_EQ(run(requests, batching_of(5, 8, 16), right, {}, look).tokens, without.tokens);
}

/// A stage's view of a pool: it never lacks a page, and guesses make nobody step back that would
/// not without.
TEST(DraftAdmission, GuessesTakeOnlyPagesThatNobodyNeeds) {
  SomeDrafter right(0.5);
  const std::vector<Request> requests = requests_of(12, 25);
  for (const std::int32_t pages : {9, 12, 20, 40}) {
    const auto ledger = [&] {
      return PageLedger({CacheRoom{{100, 0, 0}, kPageTokens, {pages, 0, 0}}}, 4);
    };
    std::map<std::int32_t, std::int32_t> owned;
    std::int32_t used = 0;
    const auto look = [&](const Pass& pass) {
      for (const std::int32_t slot : pass.freed) used -= std::exchange(owned[slot], 0);
      for (const PassRow& row : pass.rows) {
        const std::int32_t needed = (row.position + row.new_tokens - 1) / kPageTokens + 1;
        used += std::max(needed - owned[row.slot], 0);
        owned[row.slot] = std::max(needed, owned[row.slot]);
      }
      EXPECT_LE(used, pages);
    };
    const Ran without = run(requests, batching_of(4, 0), right, ledger());
    const Ran with = run(requests, batching_of(4, 6), right, ledger(), look);
    EXPECT_EQ(with.tokens, without.tokens) << pages;
    EXPECT_GT(with.accepted, 0U) << pages;
    EXPECT_LT(with.passes, without.passes) << pages;
  }
}

TEST(DraftAdmission, OnDiskNoGuessFillsAPage) {
  SomeDrafter right(1);
  const auto look = [](const Pass& pass) {
    for (const PassRow& row : pass.rows) {
      const std::int32_t sure = row.position + row.new_tokens - row.drafted;
      EXPECT_EQ((row.position + row.new_tokens) / kPageTokens, sure / kPageTokens)
          << row.position << " " << row.drafted;
    }
  };
  const std::vector<Request> requests = requests_of(3, 25);
  const Ran without = run(requests, batching_of(3, 0), right);
  const Ran with = run(requests, batching_of(3, 6), right,
                       PageLedger({CacheRoom{{0, 0, 100}, kPageTokens, {0, 0, 60}}}, 3), look);
  EXPECT_EQ(with.tokens, without.tokens);
  EXPECT_GT(with.accepted, 0U);
}

TEST(DraftAdmission, APassThatIsLateForItsTokensEndsTheGuessing) {
  SomeDrafter some(0.5);
  support::ListJob job(requests_of(1, 200));
  Batching batching = batching_of(1, 4);
  batching.max_sequence_tokens = 300;
  batching.draft_adapts = true;
  Admission admission(job, batching, 1, {}, &some);
  Model model;
  Pass pass;
  admission.admit_all();
  std::int32_t late = 0;  // passes of the second half that guess
  for (int i = 0; admission.make_pass(0, pass); ++i) {
    pass.number = i;
    const std::uint64_t before = admission.completion_tokens();
    admission.take(pass, model.answer(pass));
    admission.took(pass, admission.completion_tokens() - before,
                   0.01 * static_cast<double>(pass.tokens.size()));
    late += job.answers[0].tokens.size() > 100 && pass.rows[0].drafted > 0 ? 1 : 0;
  }
  EXPECT_GT(admission.drafted_tokens(), 0U);
  EXPECT_LT(late, 20);
}

}  // namespace
}  // namespace sluice::stage
