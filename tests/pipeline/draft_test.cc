// Tokens that are guessed ahead and verified in one pass: whoever guesses, and whatever, answers
// and log-probabilities are the same bits as without, in every placement and on any number of
// stages.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "grammar/builder.h"
#include "grammar/token_trie.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/same_answers.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

using Answers = std::map<std::uint64_t, ListJob::Answer>;

launcher::ModelFolder model_named(const std::string& name) {
  return launcher::open_model(support::read_reference(name).folder.string());
}

/// Prompts of tokens that come again, so that look-up has something to find.
std::vector<stage::Request> requests_of(std::int32_t vocabulary, std::size_t count = 11) {
  std::vector<stage::Request> requests(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t period = 2 + i % 5;
    for (std::size_t k = 0; k < 7 + 3 * (i % 6); ++k) {
      const std::size_t token = (i * 37 + 11) * (k % period + 3);
      requests[i].prompt.push_back(static_cast<std::int32_t>(token) % vocabulary);
    }
    requests[i].max_tokens = 9 + static_cast<std::int32_t>(i % 9);
    stage::Sampling& sampling = requests[i].sampling;
    sampling.answer_begin = static_cast<std::int32_t>(requests[i].prompt.size());
    sampling.seed = 700 + i;
    sampling.temperature = i % 3 == 1 ? 0.9F : 0.0F;
    sampling.top_k = i % 6 == 1 ? 20 : 0;
    sampling.top_p = i % 6 == 4 ? 0.9F : 1.0F;
    sampling.repetition_penalty = i % 4 == 2 ? 1.2F : 1.0F;
    sampling.frequency_penalty = i % 4 == 3 ? 0.5F : 0.0F;
    sampling.no_repeat_ngram = i % 5 == 3 ? 3 : 0;
    sampling.logprobs = i % 2 == 0 ? 3 : -1;
    if (i % 4 == 0) requests[i].scores_from = 1 + static_cast<std::int32_t>(i % 3);
  }
  return requests;
}

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy, std::int32_t size,
                           std::int32_t batches, std::int32_t max_tokens) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = size;
  options.batching.num_gpu_batches = batches;
  options.batching.max_tokens_per_gpu_batch = max_tokens;
  return options;
}

PipelineOptions with_guesses(PipelineOptions options, std::int32_t tokens, stage::Drafter* drafter,
                             bool adapts = false) {
  options.batching.draft_tokens = tokens;
  options.batching.draft_adapts = adapts;
  options.drafter = drafter;
  return options;
}

struct Ran {
  Answers answers;
  support::PipelineRun report;
};

Ran run(const launcher::ModelFolder& model, const PipelineOptions& options,
        std::vector<stage::Request> requests, std::int32_t eos = -1) {
  ListJob job(std::move(requests), eos);
  Ran made;
  made.report = support::run_pipeline(model, options, job);
  made.answers = std::move(job.answers);
  return made;
}

/// Knows the answers, and says each token rightly with some probability.
class KnowingDrafter : public stage::Drafter {
 public:
  KnowingDrafter(const std::vector<stage::Request>& requests, const Answers& answers, double right,
                 std::int32_t vocabulary, std::uint64_t seed)
      : right_(right), vocabulary_(vocabulary), random_(seed) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      whole_.push_back(requests[i].prompt);
      const std::vector<std::int32_t>& tokens = answers.at(i).tokens;
      whole_.back().insert(whole_.back().end(), tokens.begin(), tokens.end());
    }
  }

  void draft(std::span<stage::DraftRow> rows) override {
    for (stage::DraftRow& row : rows) {
      const auto known = std::ranges::find_if(whole_, [&](const auto& whole) {
        return whole.size() >= row.tokens.size() &&
               std::ranges::equal(std::span(whole).first(row.tokens.size()), row.tokens);
      });
      row.count = static_cast<std::int32_t>(row.guesses.size());
      for (std::size_t i = 0; i < row.guesses.size(); ++i) {
        const std::size_t place = row.tokens.size() + i;
        const bool right = known != whole_.end() && place < known->size() &&
                           std::uniform_real_distribution<>()(random_) < right_;
        row.guesses[i] =
            right ? (*known)[place]
                  : std::uniform_int_distribution<std::int32_t>(0, vocabulary_ - 1)(random_);
      }
    }
  }

 private:
  std::vector<std::vector<std::int32_t>> whole_;  // prompt and answer
  double right_;
  std::int32_t vocabulary_;
  std::mt19937_64 random_;
};

struct Placement {
  const char* name;
  offload::Policy policy;
};

std::vector<Placement> placements() {
  std::vector<Placement> list = {{"device", policy_of(100, 0, 100, 0, 100, 0)},
                                 {"host", policy_of(0, 100, 0, 100, 0, 100)},
                                 {"disk", policy_of(0, 0, 0, 0, 0, 0)},
                                 {"mixed", policy_of(30, 40, 50, 20, 50, 50)},
                                 {"cpu attention", policy_of(30, 40, 50, 20, 50, 50)},
                                 {"packed cache", policy_of(30, 40, 50, 20, 50, 50)},
                                 {"mlp once", policy_of(30, 40, 50, 20, 100, 0)}};
  list[4].policy.cpu_cache_compute = true;
  list[5].policy.cache_dtype = DType::q8;
  list[6].policy.mlp_once = true;
  return list;
}

TEST(Draft, AnswersAreTheSameBitsInEveryPlacement) {
  const launcher::ModelFolder model = model_named("opt-deep");
  const std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  std::map<std::optional<DType>, Answers> expected;
  for (const Placement& placement : placements()) {
    const auto dtype = placement.policy.cache_dtype;
    if (!expected.contains(dtype)) {
      offload::Policy plain;
      plain.cache_dtype = dtype;
      expected[dtype] = run(model, options_of(1, plain, 4, 1, 200), requests).answers;
    }
    for (const std::int32_t stages : {1, 2, 3, 4}) {
      SCOPED_TRACE(std::string(placement.name) + ", stages " + std::to_string(stages));
      const PipelineOptions options =
          options_of(stages, placement.policy, 1 + stages % 3, 1 + stages % 2, 30);
      KnowingDrafter some(requests, expected[dtype], 0.8, model.config.vocabulary, 5);
      const Ran made = run(model, with_guesses(options, 4, &some), requests);
      support::expect_same(made.answers, expected[dtype]);
      EXPECT_GT(made.report.run.accepted_tokens, 0U);
      EXPECT_GT(made.report.run.drafted_tokens, made.report.run.accepted_tokens);
      for (const stage::StageReport& stage : made.report.stages) {
        for (std::size_t tier = 0; tier < offload::kTierCount; ++tier) {
          EXPECT_EQ(stage.tiers[tier].high_water, stage.tiers[tier].planned) << tier;
        }
      }
    }
  }
}

TEST(Draft, LookUpGivesTheSameAnswersOnAllReferenceCheckpoints) {
  std::uint64_t accepted = 0;
  for (const std::string& name : support::reference_names()) {
    SCOPED_TRACE(name);
    const launcher::ModelFolder model = model_named(name);
    const std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
    const PipelineOptions options = options_of(2, policy_of(0, 100, 50, 50, 100, 0), 3, 1, 40);
    const Answers expected = run(model, options, requests).answers;
    for (const bool adapts : {false, true}) {
      const Ran made = run(model, with_guesses(options, 5, nullptr, adapts), requests);
      support::expect_same(made.answers, expected);
      accepted += made.report.run.accepted_tokens;
    }
  }
  EXPECT_GT(accepted, 0U);
}

/// Rotary, windowed, with experts, parallel: none minds how tokens are cut into passes.
TEST(Draft, FamiliesGiveTheSameAnswers) {
  std::uint64_t accepted = 0;
  for (const std::string& name : support::family_names()) {
    SCOPED_TRACE(name);
    const launcher::ModelFolder model = model_named(name);
    const std::vector<stage::Request> requests = requests_of(model.config.vocabulary, 4);
    PipelineOptions options = options_of(1, policy_of(50, 50, 50, 50, 100, 0), 4, 1, 60);
    options.batching.max_sequence_tokens = 48;
    const Answers expected = run(model, options, requests).answers;
    options.stages = std::min(model.config.layers, 2);
    KnowingDrafter some(requests, expected, 0.8, model.config.vocabulary, 4);
    const Ran made = run(model, with_guesses(options, 4, &some), requests);
    support::expect_same(made.answers, expected);
    accepted += made.report.run.accepted_tokens;
  }
  EXPECT_GT(accepted, 100U);
}

TEST(Draft, RightGuessesSavePassesAndAnswersMayEndWithinThem) {
  const launcher::ModelFolder model = model_named("opt-pre");
  const std::vector<stage::Request> requests = requests_of(model.config.vocabulary, 4);
  const PipelineOptions options = options_of(1, {}, 4, 1, 100);
  const Answers whole = run(model, options, requests).answers;
  // The fourth token of the first answer ends every answer that has it.
  const std::int32_t eos = whole.at(0).tokens[3];
  for (const std::int32_t end : {-1, eos}) {
    const Ran without = run(model, options, requests, end);
    KnowingDrafter right(requests, whole, 1, model.config.vocabulary, 1);
    const Ran with = run(model, with_guesses(options, 5, &right), requests, end);
    support::expect_same(with.answers, without.answers);
    EXPECT_LE(2 * with.report.stages[0].run.passes, without.report.stages[0].run.passes);
  }
}

TEST(Draft, BadGuessesChangeNothing) {
  const launcher::ModelFolder model = model_named("opt-odd");
  const std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  const Answers expected = run(model, options_of(1, {}, 4, 1, 200), requests).answers;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    SCOPED_TRACE(seed);
    const auto stages = static_cast<std::int32_t>(1 + seed % 2);
    const offload::Policy policy = placements()[seed % 5].policy;
    PipelineOptions options = options_of(stages, policy, 3, 2, 24);
    options.device_samples = seed % 2 == 1;
    const auto most = static_cast<std::int32_t>(1 + seed % 7);
    KnowingDrafter bad(requests, expected, 0.1 * static_cast<double>(seed % 4),
                       model.config.vocabulary, seed);
    support::expect_same(run(model, with_guesses(options, most, &bad), requests).answers, expected);
  }
}

TEST(Draft, LayersWithAWindowKeepWhatIsInSight) {
  for (const std::vector<std::int32_t>& windows :
       {std::vector<std::int32_t>{20}, {20, 0}, {0, 33, 7}}) {
    launcher::ModelFolder model = model_named("opt-deep");
    support::set_windows(windows, model);
    std::vector<stage::Request> requests = requests_of(model.config.vocabulary, 5);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      while (requests[i].prompt.size() < 40 + 5 * i) requests[i].prompt.push_back(7);
      requests[i].max_tokens = 24;
    }
    PipelineOptions whole = options_of(1, {}, 3, 1, 300);
    whole.batching.max_sequence_tokens = 110;
    const Answers expected = run(model, whole, requests).answers;
    for (const Placement& placement : placements()) {
      if (placement.policy.cache_dtype) continue;
      SCOPED_TRACE(placement.name);
      PipelineOptions options = options_of(2, placement.policy, 3, 2, 13);
      options.batching.max_sequence_tokens = 110;
      KnowingDrafter some(requests, expected, 0.7, model.config.vocabulary, 3);
      support::expect_same(run(model, with_guesses(options, 6, &some), requests).answers, expected);
    }
  }
}

/// "-ab-cd", and a row whose grammar ends.
grammar::Program words() {
  grammar::Builder builder;
  const grammar::Node letter = builder.bytes('a', 'f');
  const grammar::Node word = builder.sequence({builder.text("-"), builder.repeat(letter, 1, 3)});
  const grammar::Rule root = builder.declare("root");
  builder.define(root, builder.repeat(word, 2, 3));
  grammar::Program program = builder.compile(root);
  program.end_tokens = {2};
  return program;
}

TEST(Draft, AnswersFitTheirGrammarsAsWithout) {
  const launcher::ModelFolder model = model_named("opt-pre");
  std::vector<std::string> tokens(4);
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; tokens.size() < static_cast<std::size_t>(model.config.vocabulary); ++i) {
    tokens.push_back({static_cast<char>('a' + i % 26), static_cast<char>('a' + i / 26)});
  }
  const grammar::TokenTrie trie(tokens);
  std::vector<stage::Request> requests = requests_of(model.config.vocabulary);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i % 4 == 3) continue;
    requests[i].max_tokens = 16;
    requests[i].sampling.no_repeat_ngram = 0;
    requests[i].grammar = std::make_shared<const std::vector<std::byte>>(encode(words()));
  }
  PipelineOptions options = options_of(1, {}, 4, 1, 64);
  options.batching.grammars = true;
  options.tokens = &trie;
  const Answers expected = run(model, options, requests, 2).answers;
  for (const bool device_samples : {false, true}) {
    for (const double right : {0.0, 0.7, 1.0}) {
      options.device_samples = device_samples;
      options.stages = device_samples ? 2 : 1;
      KnowingDrafter some(requests, expected, right, model.config.vocabulary, 9);
      support::expect_same(run(model, with_guesses(options, 5, &some), requests, 2).answers,
                           expected);
    }
  }
}

/// Too few pages for all rows: they step back with and without guesses.
TEST(Draft, WherePagesAreShortRowsStepBackAsWithout) {
  const launcher::ModelFolder model = model_named("opt-pre");
  std::vector<stage::Request> requests = requests_of(model.config.vocabulary, 9);
  for (stage::Request& request : requests) request.max_tokens = 50;
  PipelineOptions options = options_of(1, policy_of(0, 100, 100, 0, 100, 0), 8, 1, 64);
  options.batching.max_sequence_tokens = 100;
  const Ran whole = run(model, options, requests);
  const std::uint64_t planned = whole.report.stages[0].tiers[0].planned;
  std::uint64_t cache = 0;
  for (const offload::Reservation& one : whole.report.stages[0].plan) {
    if (one.tier == offload::Tier::device && one.purpose == "KV cache") cache = one.bytes;
  }
  PipelineOptions few = with_guesses(options, 4, nullptr);
  KnowingDrafter some(requests, whole.answers, 0.8, model.config.vocabulary, 2);
  few.drafter = &some;
  few.budgets.bytes[0] = planned - cache * 6 / 10;
  Ran made = run(model, few, requests);
  support::expect_same(made.answers, whole.answers);
  EXPECT_GT(made.report.run.accepted_tokens, 0U);
  EXPECT_GT(made.report.run.stepped_back, 0U);
}

}  // namespace
}  // namespace sluice
