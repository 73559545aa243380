// Rows whose answers must fit a grammar: each fits, whatever the model says, and is the same on any
// number of stages, for any batches, and where the device samples.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grammar/builder.h"
#include "grammar/matcher.h"
#include "grammar/token_trie.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;

constexpr std::int32_t kEos = 2;

/// Token 4 + b is the byte b; the others have two letters each, so that there is a choice.
std::vector<std::string> tokens_of(std::int32_t vocabulary) {
  std::vector<std::string> tokens(4);
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; tokens.size() < static_cast<std::size_t>(vocabulary); ++i) {
    tokens.push_back({static_cast<char>('a' + i % 26), static_cast<char>('a' + i / 26)});
  }
  return tokens;
}

/// "-word" so many times, of letters of which one is the row's own.
grammar::Program program_of(std::size_t row) {
  grammar::Builder builder;
  const auto own = static_cast<std::uint8_t>('a' + row % 26);
  const grammar::Node letter = builder.choice({builder.bytes('a', 'f'), builder.bytes(own, own)});
  const grammar::Node word = builder.sequence({builder.text("-"), builder.repeat(letter, 1, 3)});
  const grammar::Rule root = builder.declare("root");
  builder.define(root, builder.repeat(word, 2, 3));
  grammar::Program program = builder.compile(root);
  program.end_tokens = {kEos};
  return program;
}

struct Rows {
  std::vector<stage::Request> requests;
  std::vector<grammar::Program> programs;  // by request; without edges: none
};

Rows rows_of(const support::ReferenceCases& cases) {
  Rows rows;
  for (std::size_t i = 0; i < cases.prompts.size(); ++i) {
    stage::Request& request = rows.requests.emplace_back();
    request.prompt = cases.prompts[i].prompt;
    request.max_tokens = 16;
    if (request.prompt.size() > 100) request.prompt.resize(100);
    request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.5F;
    request.sampling.top_k = i % 4 == 1 ? 5 : 0;
    request.sampling.repetition_penalty = i % 4 == 2 ? 1.2F : 1.0F;
    request.sampling.logprobs = i % 3 == 0 ? 2 : -1;
    request.sampling.seed = 50 + i;
    request.sampling.answer_begin = static_cast<std::int32_t>(request.prompt.size());
    rows.programs.emplace_back();
    if (i % 5 == 4) continue;
    rows.programs.back() = program_of(i / 2);
    request.grammar = std::make_shared<const std::vector<std::byte>>(encode(rows.programs.back()));
  }
  return rows;
}

using Answers = std::map<std::uint64_t, ListJob::Answer>;

struct Setting {
  std::int32_t stages;
  std::int32_t gpu_batch_size;
  std::int32_t num_gpu_batches;
  bool device_samples;
};

class GrammarRows : public testing::Test {
 protected:
  GrammarRows()
      : cases_(support::read_reference("opt-pre")),
        model_(launcher::open_model(cases_.folder.string())),
        trie_(tokens_of(model_.config.vocabulary)),
        rows_(rows_of(cases_)) {}

  Answers run(std::vector<stage::Request> requests, const Setting& setting) const {
    PipelineOptions options;
    options.stages = setting.stages;
    options.batching.gpu_batch_size = setting.gpu_batch_size;
    options.batching.num_gpu_batches = setting.num_gpu_batches;
    options.batching.max_tokens_per_gpu_batch = 64;
    options.batching.grammars = true;
    options.device_samples = setting.device_samples;
    options.tokens = &trie_;
    ListJob job(std::move(requests), kEos);
    support::run_pipeline(model_, options, job);
    return std::move(job.answers);
  }

  /// The answer's text has all of its tokens but the last, which ended it.
  bool fits(std::size_t row, std::vector<std::int32_t> tokens) const {
    tokens.pop_back();
    grammar::Matcher matcher(rows_.programs[row]);
    grammar::Matcher::State state = matcher.start();
    for (const std::int32_t token : tokens) state = trie_.next(matcher, state, token);
    return matcher.may_end(state);
  }

  support::ReferenceCases cases_;
  launcher::ModelFolder model_;
  grammar::TokenTrie trie_;
  Rows rows_;
};

TEST_F(GrammarRows, AnswersFitAndAreTheSameHoweverTheyAreMade) {
  const Answers expected = run(rows_.requests, {1, 3, 1, false});
  for (std::size_t i = 0; i < rows_.requests.size(); ++i) {
    const auto& answer = expected.at(i);
    ASSERT_EQ(answer.failure, "");
    if (rows_.programs[i].edges.empty()) continue;
    ASSERT_EQ(answer.tokens.back(), kEos) << i;
    EXPECT_TRUE(fits(i, answer.tokens)) << i;
  }
  for (const Setting& setting : {Setting{1, 1, 1, false}, Setting{3, 2, 2, false},
                                 Setting{1, 4, 1, true}, Setting{2, 2, 2, true}}) {
    const Answers job = run(rows_.requests, setting);
    for (std::size_t i = 0; i < rows_.requests.size(); ++i) {
      SCOPED_TRACE(std::to_string(i) + ", stages " + std::to_string(setting.stages));
      EXPECT_EQ(job.at(i).tokens, expected.at(i).tokens);
      ASSERT_EQ(job.at(i).results.size(), expected.at(i).results.size());
      for (std::size_t k = 0; k < job.at(i).results.size(); ++k) {
        EXPECT_EQ(job.at(i).results[k].logprob, expected.at(i).results[k].logprob);
      }
    }
  }
}

TEST_F(GrammarRows, AnAnswerGoesOnBehindTokensThatItHasAlready) {
  const Answers whole = run(rows_.requests, {1, 3, 1, false});
  std::vector<stage::Request> rest = rows_.requests;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    const auto& tokens = whole.at(i).tokens;
    const std::size_t had = std::min(i % 4, tokens.size() - 1);
    rest[i].prompt.insert(rest[i].prompt.end(), tokens.begin(),
                          tokens.begin() + static_cast<std::ptrdiff_t>(had));
    rest[i].max_tokens -= static_cast<std::int32_t>(had);
  }
  const Answers job = run(rest, {2, 2, 1, false});
  for (std::size_t i = 0; i < rest.size(); ++i) {
    std::vector<std::int32_t> tokens = whole.at(i).tokens;
    tokens.erase(tokens.begin(),
                 tokens.begin() + static_cast<std::ptrdiff_t>(std::min(i % 4, tokens.size() - 1)));
    EXPECT_EQ(job.at(i).tokens, tokens) << i;
  }
}

TEST_F(GrammarRows, LogProbabilitiesStayTheModels) {
  std::vector<stage::Request> requests = {rows_.requests[0], rows_.requests[0]};
  for (stage::Request& request : requests) {
    request.max_tokens = 1;
    request.sampling.temperature = 0.0F;
    request.sampling.logprobs = 3;
  }
  requests[1].grammar = nullptr;
  const Answers job = run(requests, {1, 2, 1, false});
  const auto& masked = job.at(0).results[0];
  const auto& free = job.at(1).results[0];
  ASSERT_EQ(masked.top.size(), free.top.size());
  for (std::size_t i = 0; i < free.top.size(); ++i) {
    EXPECT_EQ(masked.top[i].token, free.top[i].token);
    EXPECT_EQ(masked.top[i].logprob, free.top[i].logprob);
  }
  EXPECT_EQ(masked.token, 4 + '-');
}

TEST_F(GrammarRows, ARowWhoseNextByteHasNoTokenFailsAlone) {
  grammar::Builder builder;
  const grammar::Rule root = builder.declare("root");
  builder.define(root, builder.text("a"));
  grammar::Program program = builder.compile(root);  // and nothing may end it
  std::vector<stage::Request> requests = {rows_.requests[0], rows_.requests[1]};
  requests[0].grammar = std::make_shared<const std::vector<std::byte>>(encode(program));
  const Answers job = run(requests, {1, 2, 1, false});
  EXPECT_NE(job.at(0).failure.find("rule out every token"), std::string::npos);
  EXPECT_EQ(job.at(1).failure, "");
}

}  // namespace
}  // namespace sluice
