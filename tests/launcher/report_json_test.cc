#include "launcher/report/report_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "launcher/config/version.h"

namespace sluice::launcher {
namespace {

using Json = nlohmann::json;

/// Every field has a value of its own, so that none can stand for another.
stage::StageReport full_report() {
  stage::StageReport report;
  report.rank = 3;
  report.host = "node \"1\"";
  report.device = "cpu";
  report.disk = "io_uring";
  report.first_layer = 5;
  report.layers = 7;
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    report.seconds[a] = 0.1 + static_cast<double>(a);
    report.bytes[a] = (1ULL << 60U) + a;  // no double has it
  }
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    report.tiers[t] = {100 + t, 200 + t, 300 + t};
    report.weight_share_asked[t] = 10.5 + static_cast<double>(t);
    report.weight_share_achieved[t] = 20.25 + static_cast<double>(t);
  }
  report.plan = {{offload::Tier::disk, "KV cache", 11}, {offload::Tier::device, "weights", 12}};
  report.wall_seconds = 1.25;
  report.load_seconds = 2.5;
  report.passes = 99;
  return report;
}

TEST(ReportJson, AStagesReportSurvivesTheWay) {
  const stage::StageReport report = full_report();
  const std::string json = stage_report_to_json(report);
  EXPECT_EQ(json.find('\n'), std::string::npos);
  const stage::StageReport again = stage_report_from_json(json);
  EXPECT_EQ(again.rank, report.rank);
  EXPECT_EQ(again.host, report.host);
  EXPECT_EQ(again.device, report.device);
  EXPECT_EQ(again.disk, report.disk);
  EXPECT_EQ(again.first_layer, report.first_layer);
  EXPECT_EQ(again.layers, report.layers);
  EXPECT_EQ(again.seconds, report.seconds);
  EXPECT_EQ(again.bytes, report.bytes);
  EXPECT_EQ(again.weight_share_asked, report.weight_share_asked);
  EXPECT_EQ(again.weight_share_achieved, report.weight_share_achieved);
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    EXPECT_EQ(again.tiers[t].budget, report.tiers[t].budget);
    EXPECT_EQ(again.tiers[t].planned, report.tiers[t].planned);
    EXPECT_EQ(again.tiers[t].high_water, report.tiers[t].high_water);
  }
  ASSERT_EQ(again.plan.size(), 2U);
  EXPECT_EQ(again.plan[0].tier, offload::Tier::disk);
  EXPECT_EQ(again.plan[0].purpose, "KV cache");
  EXPECT_EQ(again.plan[1].bytes, 12U);
  EXPECT_EQ(again.wall_seconds, report.wall_seconds);
  EXPECT_EQ(again.load_seconds, report.load_seconds);
  EXPECT_EQ(again.passes, report.passes);
  EXPECT_EQ(stage_report_to_json(again), json);
}

TEST(ReportJson, BrokenTextIsMended) {
  stage::StageReport report = full_report();
  report.host = "bad \xff";
  EXPECT_EQ(stage_report_from_json(stage_report_to_json(report)).host, "bad \xEF\xBF\xBD");
}

TEST(ReportJson, RefusesWhatIsMissingOrWrong) {
  const Json whole = Json::parse(stage_report_to_json(full_report()));
  EXPECT_THROW(stage_report_from_json(""), InputError);
  EXPECT_THROW(stage_report_from_json("[]"), InputError);
  EXPECT_THROW(stage_report_from_json(whole.dump().substr(0, 100)), InputError);
  for (const auto& item : whole.items()) {
    Json without = whole;
    without.erase(item.key());
    EXPECT_THROW(stage_report_from_json(without.dump()), InputError) << item.key();
  }
  Json wrong = whole;
  wrong["plan"][0]["tier"] = "tape";
  EXPECT_THROW(stage_report_from_json(wrong.dump()), InputError);
  wrong = whole;
  wrong["passes"] = "many";
  EXPECT_THROW(stage_report_from_json(wrong.dump()), InputError);
}

TEST(ReportJson, TheFileHasEverything) {
  stage::RunReport run;
  run.requests = 10;
  run.failed = 1;
  run.prompt_tokens = 100;
  run.completion_tokens = 50;
  run.decode_tokens = 40;
  run.wall_seconds = 5;
  run.prefill_seconds = 2;
  run.decode_seconds = 2.5;
  ReportFacts facts;
  facts.command_line = "sluice generate --prompt 'x'";
  facts.model = "m";
  facts.config_yaml = "model: m\n";
  facts.transport = "mpi";
  facts.date = std::chrono::system_clock::from_time_t(1700000000);
  const std::string text = report_json({full_report(), full_report()}, run, facts);
  EXPECT_EQ(text.back(), '\n');
  const Json json = Json::parse(text);
  EXPECT_EQ(json.at("format"), "sluice-report");
  EXPECT_EQ(json.at("format_version"), 1);
  EXPECT_EQ(json.at("version"), kVersion);
  EXPECT_EQ(json.at("date"), "2023-11-14T22:13:20Z");
  EXPECT_EQ(json.at("command"), facts.command_line);
  EXPECT_EQ(json.at("model"), "m");
  EXPECT_EQ(json.at("transport"), "mpi");
  EXPECT_EQ(json.at("config"), "model: m\n");
  EXPECT_EQ(json.at("run").at("requests"), 10);
  EXPECT_EQ(json.at("run").at("failed"), 1);
  EXPECT_EQ(json.at("run").at("prefill_tokens_per_second"), 50.0);
  EXPECT_EQ(json.at("run").at("decode_tokens"), 40);
  EXPECT_EQ(json.at("run").at("decode_tokens_per_second"), 16.0) << "without first tokens";
  EXPECT_EQ(json.at("run").at("tokens_per_second"), 30.0);
  EXPECT_EQ(json.at("run").at("completion_tokens_per_second"), 10.0);
  const Json nothing = Json::parse(report_json({}, {}, facts));
  EXPECT_TRUE(nothing.at("run").at("decode_tokens_per_second").is_null());
  ASSERT_EQ(json.at("stages").size(), 2U);
  const Json& stage = json.at("stages").at(1);
  EXPECT_EQ(stage.at("activities").size(), static_cast<std::size_t>(kActivityCount));
  EXPECT_EQ(stage.at("activities").at("wait_weights").at("seconds"), 8.1);
  EXPECT_EQ(stage.at("tiers").at("host").at("high_water"), 301);
}

}  // namespace
}  // namespace sluice::launcher
