// A small model that guesses for a large one: the answers are those without it, its memory is on
// rank 0's plan, and a model of another vocabulary is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/generate/draft_rank.h"
#include "launcher/planner/draft_paper.h"
#include "tests/launcher/planner/paper_cases.h"
#include "tests/support/list_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/reference_cases.h"
#include "tests/support/same_answers.h"
#include "tests/support/scratch_folder.h"

namespace sluice {
namespace {

using support::ListJob;
using support::PipelineOptions;
using support::policy_of;

constexpr std::int32_t kGuesses = 4;

std::string folder_of(const std::string& name) {
  return support::read_reference(name).folder.string();
}

std::vector<stage::Request> requests_of(std::int32_t vocabulary) {
  std::vector<stage::Request> requests(10);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::size_t k = 0; k < 4 + 5 * (i % 6); ++k) {
      const std::size_t token = (i * 37 + 11) * (k + 3);
      requests[i].prompt.push_back(static_cast<std::int32_t>(token) % vocabulary);
    }
    requests[i].max_tokens = 8 + static_cast<std::int32_t>(3 * (i % 5));
    stage::Sampling& sampling = requests[i].sampling;
    sampling.answer_begin = static_cast<std::int32_t>(requests[i].prompt.size());
    sampling.seed = 70 + i;
    sampling.temperature = i % 3 == 1 ? 0.8F : 0.0F;
    sampling.top_p = i % 6 == 4 ? 0.9F : 1.0F;
    sampling.repetition_penalty = i % 4 == 2 ? 1.2F : 1.0F;
    sampling.logprobs = i % 2 == 0 ? 2 : -1;
  }
  return requests;
}

PipelineOptions options_of(std::int32_t stages, const offload::Policy& policy) {
  PipelineOptions options;
  options.stages = stages;
  options.policy = policy;
  options.batching.gpu_batch_size = 3;
  options.batching.num_gpu_batches = 2;
  options.batching.max_tokens_per_gpu_batch = 24;
  options.batching.max_sequence_tokens = 60;
  return options;
}

struct Ran {
  std::map<std::uint64_t, ListJob::Answer> answers;
  support::PipelineRun report;
};

Ran run(const launcher::ModelFolder& model, const PipelineOptions& options) {
  ListJob job(requests_of(model.config.vocabulary));
  Ran made;
  made.report = support::run_pipeline(model, options, job);
  made.answers = std::move(job.answers);
  for (const auto& [id, answer] : made.answers) EXPECT_EQ(answer.failure, "") << id;
  return made;
}

/// With the model of this folder as the one that guesses.
Ran run_with(const launcher::ModelFolder& model, PipelineOptions options, const std::string& folder,
             offload::Compression compression = offload::Compression::none) {
  const support::ScratchFolder packed;
  launcher::RunConfig config;
  config.draft.model = folder;
  config.draft.compress_weight = compression;
  config.packed_directory = packed.path().string();
  options.batching.draft_tokens = kGuesses;
  options.batching.draft_adapts = false;
  launcher::DraftRank draft(config, model, options.batching, options.stages, "cpu", 1);
  // Plans and predictions count it before it is there.
  launcher::Machine machine = launcher::paper::usual_machine();
  machine.device.kind = "cpu";
  EXPECT_EQ(launcher::DraftPaper(config, machine).bytes(options.batching, options.stages),
            draft.bytes());
  draft.load({});
  draft.start();
  options.drafter = &draft;
  Ran made = run(model, options);
  EXPECT_GT(draft.seconds(), 0);
  draft.stop();
  return made;
}

TEST(DraftModel, ThatIsTheModelItselfIsAlwaysRight) {
  const launcher::ModelFolder model = launcher::open_model(folder_of("opt-pre"));
  const Ran expected = run(model, options_of(1, {}));
  for (const std::int32_t stages : {1, 2}) {
    const Ran made = run_with(model, options_of(stages, policy_of(0, 100, 50, 50, 100, 0)),
                              folder_of("opt-pre"));
    support::expect_same(made.answers, expected.answers);
    EXPECT_GT(made.report.run.drafted_tokens, 0U);
    EXPECT_EQ(made.report.run.accepted_tokens, made.report.run.drafted_tokens)
        << "greedy or sampled: chance is the position's";
  }
}

TEST(DraftModel, OfFewerBitsIsRightAtTimesAndChangesNothing) {
  const launcher::ModelFolder model = launcher::open_model(folder_of("opt-pre"));
  const Ran expected = run(model, options_of(1, {}));
  for (const std::int32_t stages : {1, 3}) {
    const Ran made = run_with(model, options_of(stages, policy_of(30, 40, 40, 30, 50, 50)),
                              folder_of("opt-pre"), offload::Compression::four_bit);
    support::expect_same(made.answers, expected.answers);
    EXPECT_GT(made.report.run.accepted_tokens, 0U);
    EXPECT_LT(made.report.run.accepted_tokens, made.report.run.drafted_tokens);
  }
}

TEST(DraftModel, OfAnotherVocabularyIsRefused) {
  const launcher::ModelFolder model = launcher::open_model(folder_of("opt-pre"));
  launcher::ModelFolder other = model;
  other.config.vocabulary += 8;
  try {
    launcher::check_vocabularies(model, other);
    FAIL() << "it was taken";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("--draft-model"));
    EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(other.config.vocabulary)));
  }
  EXPECT_NO_THROW(launcher::check_vocabularies(model, model));
}

}  // namespace
}  // namespace sluice
