// Penalties, forbidden words, n-grams and beam searches, whole: rows of a job through the pipeline,
// against what Hugging Face's generate() made of them (scripts/compare-sampling --record).
#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/jobs/text_job.h"
#include "tests/support/local_pipeline.h"
#include "tests/support/model_folder.h"
#include "tests/support/reference_cases.h"

namespace sluice {
namespace {

using nlohmann::json;

const json& recorded() {
  static const json cases = [] {
    std::ifstream file(SLUICE_SOURCE_DIR "/tests/data/sampling-reference.json");
    return json::parse(file);
  }();
  return cases.at("checkpoints");
}

/// The records of a job, by custom_id.
std::map<std::string, json> answers_of(const launcher::ModelFolder& model, const std::string& rows,
                                       const support::PipelineOptions& options) {
  const launcher::Tokenizer tokenizer = launcher::Tokenizer::of_ids(
      model.config.vocabulary, model.config.bos, model.eos_ids.front(), model.config.pad);
  launcher::ModelLimits limits{model.config.vocabulary, model.config.max_positions};
  limits.further_eos.assign(model.eos_ids.begin() + 1, model.eos_ids.end());
  limits.eos = model.eos_ids.front();
  launcher::RequestParser parser(tokenizer, {}, limits);
  const support::ModelFolder folder;
  launcher::CompletionWriter writer(folder.path() / "out.jsonl", launcher::Existing::refuse);
  std::istringstream in(rows);
  launcher::RowNames names;
  names.look_at(rows, 1000);
  launcher::RowFeed feed(in, "in.jsonl", parser,
                         launcher::RowSorter(writer.take_finished(), std::move(names)), true);
  launcher::TextJob job(tokenizer, feed, {.eos = limits.eos, .form = {}});
  job.start(writer, 1);
  support::run_pipeline(model, options, job);
  EXPECT_TRUE(job.done());
  std::map<std::string, json> records;
  std::istringstream out(folder.read("out.jsonl"));
  for (std::string line; std::getline(out, line);) {
    const json record = json::parse(line);
    records[record.at("custom_id")] = record;
  }
  return records;
}

void expect_answers(const json& record, const json& wanted) {
  ASSERT_FALSE(record.contains("error")) << record;
  const json answers = record.contains("choices") ? record["choices"] : json::array({record});
  ASSERT_EQ(answers.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(answers[i].at("token_ids"), wanted[i].at("token_ids")) << "answer " << i;
    if (!wanted[i].contains("score")) continue;
    const auto score = wanted[i].at("score").get<double>();
    EXPECT_NEAR(answers[i].at("score").get<double>(), score, 1e-4 + 1e-5 * std::abs(score));
  }
}

class SamplingReference : public testing::TestWithParam<std::string> {};

TEST_P(SamplingReference, AnswersAreHuggingFaces) {
  const launcher::ModelFolder model =
      launcher::open_model(support::read_reference(GetParam()).folder.string());
  const json& cases = recorded().at(GetParam());
  ASSERT_GE(cases.size(), 10U);
  std::string rows;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    json row = cases[i].at("row");
    row["custom_id"] = std::to_string(i);
    rows += row.dump() + "\n";
  }
  support::PipelineOptions options;
  options.batching.gpu_batch_size = 5;
  options.batching.max_rule_words = 64;
  for (const bool spread : {false, true}) {
    if (spread) {
      options.stages = 2;
      options.policy = support::policy_of(30, 40, 30, 40, 50, 50);
      options.batching.gpu_batch_size = 2;
      options.batching.num_gpu_batches = 2;
      options.batching.max_tokens_per_gpu_batch = 20;
      options.device_samples = true;
    }
    const std::map<std::string, json> records = answers_of(model, rows, options);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      SCOPED_TRACE(cases[i].at("row").dump());
      expect_answers(records.at(std::to_string(i)), cases[i].at("answers"));
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& [name, cases] : recorded().items()) all.push_back(name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, SamplingReference, testing::ValuesIn(names()),
                         [](const auto& one) {
                           std::string name = one.param;
                           for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
                           return name;
                         });

TEST(SamplingReference, HasEveryReferenceCheckpoint) {
  std::vector<std::string> wanted = support::checkpoint_names();
  std::erase(wanted, "yalm");  // transformers has no such family
  // Nothing was recorded of mixtures: what samples sees logits, whatever made them.
  std::erase_if(wanted, [](const std::string& name) {
    const auto folder = support::read_reference_rows(name).folder.string();
    return launcher::open_model(folder).config.mixture.experts > 0;
  });
  for (const std::string& name : wanted) EXPECT_TRUE(recorded().contains(name)) << name;
}

}  // namespace
}  // namespace sluice
