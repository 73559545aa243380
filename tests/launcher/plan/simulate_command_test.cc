#include "launcher/plan/simulate_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/config/cli.h"
#include "launcher/planner/machine_file.h"
#include "tests/support/machines.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using Json = nlohmann::json;

constexpr const char* kConfig = R"({"model_type": "opt", "num_hidden_layers": 4, "hidden_size": 64,
  "num_attention_heads": 4, "ffn_dim": 256, "vocab_size": 320, "max_position_embeddings": 128,
  "word_embed_proj_dim": 64, "do_layer_norm_before": true, "activation_function": "relu",
  "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "torch_dtype": "float16"})";

class Simulate : public testing::Test {
 protected:
  Simulate() {
    folder_.write("config.json", kConfig);
    Machine machine = support::paper_machine();
    machine.hosts = 2;
    machine.within_host =
        machine.between_hosts = {{1e9, 0, "", "a test's"}, {1e-5, 0, "", "a test's"}};
    write_machine_file(folder_.path() / "machine.yaml", machine);
    config_.model = folder_.path().string();
    config_.weights = WeightsFrom::dummy;
    config_.machine = (folder_.path() / "machine.yaml").string();
    config_.job.prompt_len = 10;
    config_.job.gen_len = 6;
    config_.report.file = (folder_.path() / "report.json").string();
  }
  std::string printed(std::int32_t ranks) {
    std::ostringstream out;
    simulate_run(config_, ranks, "sluice simulate", out);
    return out.str();
  }
  Json report() const { return Json::parse(folder_.read("report.json")); }

  support::ModelFolder folder_;
  RunConfig config_;
};

ParsedCommand parse(std::vector<const char*> words) {
  words.insert(words.begin(), {"sluice", "simulate", "--model", "m", "--prompt-len", "512"});
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

TEST(SimulateFlags, AreARunsAndRanks) {
  const ParsedCommand parsed =
      parse({"--ranks", "4", "--machine", "t4.yaml", "--gpu-batch-size", "48"});
  EXPECT_EQ(parsed.command, Command::simulate);
  EXPECT_EQ(parsed.ranks, 4);
  EXPECT_EQ(parsed.config.machine, "t4.yaml");
  EXPECT_EQ(parsed.config.batching.gpu_batch_size, 48);
  EXPECT_EQ(parse({}).ranks, 0);
  EXPECT_THROW(parse({"--ranks", "none"}), ConfigError);
  EXPECT_THROW(parse({"--ranks", "0"}), ConfigError);
  EXPECT_THROW(parse({"--dry-run"}), ConfigError);
}

TEST(SimulateFlags, AnInputNeedsNoPlaceForItsAnswers) {
  const char* words[] = {"sluice", "simulate", "--model", "m", "--input", "rows.jsonl"};
  EXPECT_EQ(parse_command_line(6, words).config.job.input, "rows.jsonl");
}

TEST_F(Simulate, WritesTheReportOfARun) {
  EXPECT_THAT(printed(2), testing::HasSubstr("nothing ran"));
  const Json report = this->report();
  EXPECT_EQ(report.at("format"), "sluice-report");
  EXPECT_EQ(report.at("simulated"), true);
  EXPECT_EQ(report.at("rows_simulated"), 3 * 8);
  EXPECT_EQ(report.at("stages").size(), 2);
  EXPECT_EQ(report.at("run").at("requests"), 3 * 8);  // one for each slot
  EXPECT_EQ(report.at("run").at("completion_tokens"), 3 * 8 * 6);
  const Json& prediction = report.at("prediction");
  EXPECT_EQ(prediction.at("total_seconds"), report.at("run").at("wall_seconds"));
  EXPECT_GT(prediction.at("prefill_seconds").get<double>(), 0);
  EXPECT_GT(prediction.at("decode_seconds").get<double>(), 0);
  EXPECT_TRUE(prediction.at("error").is_null());
}

TEST_F(Simulate, SimulatesTheFirstPromptsOfAHundredMillion) {
  config_.job.num_prompts = 100'000'000;
  EXPECT_THAT(printed(2), testing::HasSubstr("of 100000000 sequences were simulated"));
  const Json report = this->report();
  EXPECT_LT(report.at("rows_simulated"), 100'000);
  EXPECT_EQ(report.at("run").at("requests"), 100'000'000);
  EXPECT_EQ(report.at("run").at("completion_tokens"), 600'000'000);
  const double seconds = report.at("prediction").at("total_seconds");
  EXPECT_EQ(report.at("run").at("wall_seconds"), seconds);
  const Json& phase = report.at("stages").at(1).at("run");
  EXPECT_NEAR(phase.at("wall_seconds").get<double>(), seconds, 0.01 * seconds);
}

TEST_F(Simulate, WritesTheTraceOfARun) {
  config_.report.trace = (folder_.path() / "trace.json").string();
  config_.report.quiet = true;
  EXPECT_EQ(printed(2), "");
  const Json trace = Json::parse(folder_.read("trace.json"));
  EXPECT_GT(trace.at("traceEvents").size(), 100);
}

TEST_F(Simulate, TakesTheLengthsOfAnInputFile) {
  folder_.write("rows.jsonl", R"({"prompt": [5, 6, 7], "max_tokens": 4}
{"prompt": [5, 6, 7, 8, 9], "max_tokens": 2}
)");
  config_.job = {};
  config_.job.input = (folder_.path() / "rows.jsonl").string();
  printed(1);
  EXPECT_EQ(report().at("run").at("prompt_tokens"), 8);
  EXPECT_EQ(report().at("run").at("completion_tokens"), 6);
}

TEST_F(Simulate, RefusesWhatTheRunWouldRefuse) {
  config_.stage_defaults.budgets.bytes[0] = 4096;
  EXPECT_THROW(printed(1), CapacityError);
  config_.stage_defaults.budgets.bytes[0] = 0;
  config_.machine = (folder_.path() / "none.yaml").string();
  EXPECT_THROW(printed(1), ConfigError);
}

}  // namespace
}  // namespace sluice::launcher
