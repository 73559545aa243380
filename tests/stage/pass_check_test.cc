#include "stage/pass_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

constexpr std::int32_t kStages = 2;
constexpr std::int32_t kVocabulary = 300;

Batching small_batching() {
  Batching batching;
  batching.gpu_batch_size = 2;
  batching.num_gpu_batches = 3;
  batching.max_tokens_per_gpu_batch = 8;
  batching.max_sequence_tokens = 32;
  batching.max_rule_words = 6;
  batching.grammars = true;
  batching.draft_tokens = 2;
  batching.features = 4;
  batching.adapters = 2;
  return batching;
}

PassRow row(std::int32_t slot, std::int32_t gpu_batch, std::int32_t first, std::int32_t tokens) {
  PassRow made;
  made.slot = slot;
  made.position = 4;
  made.new_tokens = tokens;
  made.total = 10;
  made.first_token = first;
  made.gpu_batch = gpu_batch;
  return made;
}

/// Two rows in GPU batch 0, none in 1, and one in 2.
Pass good_pass() {
  Pass pass;
  pass.micro_batch = 2;
  pass.rows = {row(0, 0, 0, 3), row(17, 0, 3, 1), row(5, 2, 0, 6)};
  pass.tokens = {0, 1, 2, 3, 4, 5, 6, 7, 8, 299};
  pass.batch_tokens = {4, 0, 6};
  pass.rows[1].starts = true;
  pass.rows[1].rule_words = 4;
  pass.rules = {0, 0, 1, 299};
  pass.rows[2].grammar = 17;
  pass.grammars = {{17, 3}};
  pass.grammar_bytes.resize(3);
  pass.rows[2].sample = true;
  pass.rows[2].drafted = 2;
  pass.freed = {0, 17};
  // Behind a page of another, after which it has none of its own that is full.
  pass.rows[1].position = 16;
  pass.rows[1].total = 24;
  pass.rows[1].prefix = 35;
  pass.rows[1].kept = 1;
  pass.kept = {3};
  pass.dropped = {0, 35};
  return pass;
}

void check(const Pass& pass) { check_pass(pass, small_batching(), kStages, kVocabulary); }

/// The second row starts behind its prefix and three tokens that it copies.
void go_on_inside(Pass& pass, std::int32_t from, std::int32_t of_slot) {
  pass.rows[1].position = 19;
  pass.rows[1].copied_from = from;
  pass.rows[1].copied_of_slot = of_slot;
}

TEST(PassCheck, WhatTheHeadMakesIsTaken) {
  check(good_pass());
  for (const bool of_slot : {true, false}) {
    Pass copying = good_pass();
    go_on_inside(copying, of_slot ? -1 : 35, of_slot ? 5 : -1);
    check(copying);
  }
  Pass end;
  end.end = true;
  check(end);
}

using Change = std::function<void(Pass&)>;

void expect_refused(const char* what, const Change& change) {
  Pass pass = good_pass();
  change(pass);
  try {
    check(pass);
    ADD_FAILURE() << "taken: " << what;
  } catch (const CommError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(what));
  }
}

TEST(PassCheck, WhatNoBufferOrTableHasRoomForIsRefused) {
  const std::pair<const char*, Change> changes[] = {
      {"a number below 0", [](Pass& pass) { pass.number = -1; }},
      {"a micro-batch that is not there", [](Pass& pass) { pass.micro_batch = 3; }},
      {"a micro-batch that is not there", [](Pass& pass) { pass.micro_batch = -1; }},
      {"another number of GPU batches", [](Pass& pass) { pass.batch_tokens.pop_back(); }},
      {"other tokens than its rows", [](Pass& pass) { pass.batch_tokens[1] = 1; }},
      {"other tokens than its rows", [](Pass& pass) { pass.tokens.pop_back(); }},
      {"not in the vocabulary", [](Pass& pass) { pass.tokens[3] = kVocabulary; }},
      {"not in the vocabulary", [](Pass& pass) { pass.tokens[3] = -1; }},
      {"not in the vocabulary", [](Pass& pass) { pass.rows[0].next_token = kVocabulary; }},
      {"a slot that is not there", [](Pass& pass) { pass.rows[0].slot = 18; }},
      {"a slot that is not there", [](Pass& pass) { pass.rows[0].slot = -1; }},
      {"a freed slot that is not there", [](Pass& pass) { pass.freed[1] = 18; }},
      {"GPU batch that is not there", [](Pass& pass) { pass.rows[2].gpu_batch = 3; }},
      {"GPU batch that is not there", [](Pass& pass) { pass.rows[1].gpu_batch = -1; }},
      {"the place of another", [](Pass& pass) { pass.rows[1].first_token = 2; }},
      {"more tokens than a sequence", [](Pass& pass) { pass.rows[0].new_tokens = 0; }},
      {"more tokens than a sequence", [](Pass& pass) { pass.rows[0].position = INT32_MAX; }},
      {"more tokens than a sequence", [](Pass& pass) { pass.rows[0].total = 33; }},
      {"scores other tokens", [](Pass& pass) { pass.rows[0].scores_from = -1; }},
      {"scores other tokens",
       [](Pass& pass) {
         pass.rows[0].sample = true;
         pass.rows[0].next_token = 3;
       }},
      {"too many log-probabilities", [](Pass& pass) { pass.rows[0].sampling.logprobs = 21; }},
      {"before its prompt", [](Pass& pass) { pass.rows[0].sampling.answer_begin = -1; }},
      {"more rules than a sequence", [](Pass& pass) { pass.rows[1].rule_words = 7; }},
      {"more rules than a sequence", [](Pass& pass) { pass.rows[1].rule_words = -1; }},
      {"more rules than a sequence", [](Pass& pass) { pass.rows[1].starts = false; }},
      {"more rules than a sequence", [](Pass& pass) { pass.rules.pop_back(); }},
      {"damaged rules", [](Pass& pass) { pass.rules[3] = kVocabulary; }},
      {"damaged rules", [](Pass& pass) { pass.rules[2] = 2; }},
      {"a grammar that no row may have", [](Pass& pass) { pass.grammars[0].number = 18; }},
      {"other grammars than it says", [](Pass& pass) { pass.grammars[0].bytes = 4; }},
      {"a grammar that is not there", [](Pass& pass) { pass.rows[0].grammar = 18; }},
      {"a grammar that is not there", [](Pass& pass) { pass.rows[0].grammar = -2; }},
      {"rules of no row", [](Pass& pass) { pass.rules.push_back(0); }},
      {"rows, though it ends the job", [](Pass& pass) { pass.end = true; }},
      {"larger than was planned",
       [](Pass& pass) {
         pass.rows[1].new_tokens = 6;
         pass.batch_tokens[0] = 9;
         pass.tokens.resize(15);
       }},
      {"larger than was planned",
       [](Pass& pass) {
         pass.rows.insert(pass.rows.begin() + 2, row(1, 0, 4, 1));
         pass.batch_tokens[0] = 5;
         pass.tokens.push_back(1);
       }},
  };
  for (const auto& [what, change] : changes) expect_refused(what, change);
}

TEST(PassCheck, AnEmbeddingOrAnAdapterThatNoRowMayHaveIsRefused) {
  const std::pair<const char*, Change> changes[] = {
      {"a row of an adapter", [](Pass& pass) { pass.rows[0].adapter = 2; }},
      {"a row of an adapter", [](Pass& pass) { pass.rows[0].adapter = -2; }},
      {"a damaged flag", [](Pass& pass) { pass.rows[0].embeds = true; }},
      {"a damaged flag", [](Pass& pass) { pass.rows[0].embed = static_cast<Embed>(3); }},
      {"an embedding that no row may have",
       [](Pass& pass) {
         pass.rows[0].embed = Embed::mean;
         pass.rows[0].sample = true;
       }},
      {"an embedding that no row may have",
       [](Pass& pass) {
         pass.rows[0].embed = Embed::last;
         pass.rows[0].scores_from = 1;
       }},
  };
  for (const auto& [what, change] : changes) expect_refused(what, change);
}

TEST(PassCheck, GuessesThatARowMayNotHaveAreRefused) {
  const std::pair<const char*, Change> changes[] = {
      {"more guesses than it may have", [](Pass& pass) { pass.rows[2].drafted = 3; }},
      {"more guesses than it may have", [](Pass& pass) { pass.rows[2].drafted = -1; }},
      {"more guesses than it may have", [](Pass& pass) { pass.rows[2].sample = false; }},
      {"more guesses than it may have", [](Pass& pass) { pass.rows[2].scores_from = 1; }},
      {"more guesses than it may have",
       [](Pass& pass) {
         pass.rows[1].sample = true;
         pass.rows[1].drafted = 1;
       }},
  };
  for (const auto& [what, change] : changes) expect_refused(what, change);
}

TEST(PassCheck, PrefixesThatCannotBeAreRefused) {
  const std::pair<const char*, Change> changes[] = {
      {"a row behind a prefix", [](Pass& pass) { pass.rows[1].prefix = 36; }},
      {"a row behind a prefix", [](Pass& pass) { pass.rows[1].prefix = -2; }},
      {"a row behind a prefix", [](Pass& pass) { pass.rows[1].position = 15; }},
      {"a row behind a prefix", [](Pass& pass) { pass.rows[0].prefix = 1; }},
      {"copies a page", [](Pass& pass) { pass.rows[1].copied_from = 3; }},
      {"copies a page", [](Pass& pass) { pass.rows[0].copied_from = 3; }},
      {"copies a page", [](Pass& pass) { go_on_inside(pass, 36, -1); }},
      {"copies a page", [](Pass& pass) { go_on_inside(pass, -2, -1); }},
      {"copies a page", [](Pass& pass) { go_on_inside(pass, -1, 18); }},
      {"copies a page", [](Pass& pass) { go_on_inside(pass, -1, 17); }},
      {"copies a page", [](Pass& pass) { go_on_inside(pass, 3, 5); }},
      {"pages which are not full", [](Pass& pass) { pass.rows[1].kept_from = 1; }},
      {"pages which are not full", [](Pass& pass) { pass.rows[1].kept = -1; }},
      {"pages which are not full", [](Pass& pass) { pass.rows[0].kept = 1; }},
      {"other prefixes than", [](Pass& pass) { pass.kept.push_back(4); }},
      {"a prefix that cannot be", [](Pass& pass) { pass.kept[0] = 36; }},
      {"a prefix that cannot be", [](Pass& pass) { pass.dropped[0] = -1; }},
  };
  for (const auto& [what, change] : changes) expect_refused(what, change);
}

TEST(PassCheck, ADamagedFlagIsRefused) {
  Pass pass = good_pass();
  const unsigned char byte = 2;
  std::memcpy(&pass.rows[1].sample, &byte, sizeof byte);
  EXPECT_THROW(check(pass), CommError);
}

}  // namespace
}  // namespace sluice::stage
