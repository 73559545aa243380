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
  report.transport = "nccl";
  report.interfaces = {"eth0 10.77.0.1", "ib0 fe80::1"};
  report.first_layer = 5;
  report.layers = 7;
  double next = 0.1;
  std::uint64_t number = 1ULL << 60U;  // no double has it and its neighbours
  const auto fill = [&](stage::ActivityTotals& totals) {
    for (std::size_t a = 0; a < kActivityCount; ++a) {
      totals.seconds[a] = next++;
      totals.bytes[a] = ++number;
      totals.exposed[a] = next++;
    }
  };
  fill(report.load);
  for (stage::PhaseReport* phase : {&report.run, &report.decode}) {
    phase->wall_seconds = next++;
    phase->passes = ++number;
    fill(phase->totals);
    phase->work = {next++, ++number, ++number, next++, ++number};
  }
  report.measures_stalls = true;
  report.rates = {next++, next++, next++, next++, next++, next++};
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    report.tiers[t] = {100 + t, 200 + t, 300 + t};
    report.weight_share_asked[t] = 10.5 + static_cast<double>(t);
    report.weight_share_achieved[t] = 20.25 + static_cast<double>(t);
  }
  report.plan = {{offload::Tier::disk, "KV cache", 11}, {offload::Tier::device, "weights", 12}};
  report.load_seconds = 2.5;
  report.cache_dtype = "bf16";
  report.cache_tokens_stored = 77;
  report.cache_tokens_taken = 88;
  return report;
}

void expect_equal(const stage::ActivityTotals& one, const stage::ActivityTotals& other) {
  EXPECT_EQ(one.seconds, other.seconds);
  EXPECT_EQ(one.bytes, other.bytes);
  EXPECT_EQ(one.exposed, other.exposed);
}

void expect_equal(const stage::PhaseReport& one, const stage::PhaseReport& other) {
  EXPECT_EQ(one.wall_seconds, other.wall_seconds);
  EXPECT_EQ(one.passes, other.passes);
  expect_equal(one.totals, other.totals);
  EXPECT_EQ(one.work.flop, other.work.flop);
  EXPECT_EQ(one.work.weight_bytes, other.work.weight_bytes);
  EXPECT_EQ(one.work.kv_bytes, other.work.kv_bytes);
  EXPECT_EQ(one.work.host_flop, other.work.host_flop);
  EXPECT_EQ(one.work.host_kv_bytes, other.work.host_kv_bytes);
}

TEST(ReportJson, AStagesReportSurvivesTheWay) {
  const stage::StageReport report = full_report();
  const std::string json = stage_report_to_json(report);
  EXPECT_EQ(json.find('\n'), std::string::npos);
  const stage::StageReport again = stage_report_from_json(json);
  EXPECT_EQ(again.rank, report.rank);
  EXPECT_EQ(again.host, report.host);
  EXPECT_EQ(again.interfaces, report.interfaces);
  EXPECT_EQ(again.device, report.device);
  EXPECT_EQ(again.disk, report.disk);
  EXPECT_EQ(again.transport, report.transport);
  EXPECT_EQ(again.first_layer, report.first_layer);
  EXPECT_EQ(again.layers, report.layers);
  expect_equal(again.load, report.load);
  expect_equal(again.run, report.run);
  expect_equal(again.decode, report.decode);
  EXPECT_EQ(again.measures_stalls, report.measures_stalls);
  EXPECT_EQ(again.rates.memory_read, report.rates.memory_read);
  EXPECT_EQ(again.rates.flop, report.rates.flop);
  EXPECT_EQ(again.rates.host_to_device, report.rates.host_to_device);
  EXPECT_EQ(again.rates.device_to_host, report.rates.device_to_host);
  EXPECT_EQ(again.rates.disk_read, report.rates.disk_read);
  EXPECT_EQ(again.rates.disk_write, report.rates.disk_write);
  EXPECT_EQ(again.cache_dtype, "bf16");
  EXPECT_EQ(again.cache_tokens_stored, 77U);
  EXPECT_EQ(again.cache_tokens_taken, 88U);
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
  EXPECT_EQ(again.load_seconds, report.load_seconds);
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
  wrong["run"]["passes"] = "many";
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
  facts.world = "mpi";
  facts.journal = {70, 90};
  run.stepped_back = 3;
  run.shared_prefix_tokens = 20;
  run.recomputed_tokens = 1;
  facts.date = std::chrono::system_clock::from_time_t(1700000000);
  facts.prediction = Prediction{4, 1, 3};
  const std::string text = report_json({full_report(), full_report()}, run, facts);
  EXPECT_EQ(text.back(), '\n');
  const Json json = Json::parse(text);
  EXPECT_EQ(json.at("format"), "sluice-report");
  EXPECT_EQ(json.at("format_version"), 1);
  EXPECT_EQ(json.at("version"), kVersion);
  EXPECT_EQ(json.at("date"), "2023-11-14T22:13:20Z");
  EXPECT_EQ(json.at("command"), facts.command_line);
  EXPECT_EQ(json.at("model"), "m");
  EXPECT_EQ(json.at("world"), "mpi");
  EXPECT_EQ(json.at("config"), "model: m\n");
  EXPECT_EQ(json.at("run").at("requests"), 10);
  EXPECT_EQ(json.at("run").at("failed"), 1);
  EXPECT_EQ(json.at("run").at("prefill_tokens_per_second"), 40.0) << "of those computed";
  EXPECT_EQ(json.at("run").at("decode_tokens"), 40);
  EXPECT_EQ(json.at("run").at("restored_tokens"), 70);
  EXPECT_EQ(json.at("run").at("stepped_back"), 3);
  EXPECT_EQ(json.at("run").at("shared_prefix_tokens"), 20);
  EXPECT_EQ(json.at("run").at("recomputed_tokens"), 91) << "of the journal's rows, and of others";
  EXPECT_EQ(json.at("run").at("decode_tokens_per_second"), 16.0) << "without first tokens";
  EXPECT_EQ(json.at("run").at("tokens_per_second"), 30.0);
  EXPECT_EQ(json.at("run").at("completion_tokens_per_second"), 10.0);
  EXPECT_EQ(json.at("simulated"), false);
  EXPECT_EQ(json.at("prediction").at("total_seconds"), 4.0);
  EXPECT_EQ(json.at("prediction").at("prefill_seconds"), 1.0);
  EXPECT_EQ(json.at("prediction").at("decode_seconds"), 3.0);
  EXPECT_EQ(json.at("prediction").at("error"), 0.25) << "5 s instead of 4";
  facts.prediction.reset();
  const Json nothing = Json::parse(report_json({}, {}, facts));
  EXPECT_TRUE(nothing.at("prediction").is_null());
  EXPECT_TRUE(nothing.at("run").at("decode_tokens_per_second").is_null());
  ASSERT_EQ(json.at("stages").size(), 2U);
  const Json& stage = json.at("stages").at(1);
  for (const char* part : {"load", "run", "decode"}) {
    EXPECT_EQ(stage.at(part).at("activities").size(), static_cast<std::size_t>(kActivityCount));
  }
  EXPECT_EQ(stage.at("load").at("activities").at("wait_weights").at("seconds"), 16.1);
  EXPECT_EQ(stage.at("run").at("resources").at(0).at("name"), "disk read");
  EXPECT_GT(stage.at("decode").at("bound").at("of_wall"), 0.0);
  EXPECT_EQ(stage.at("tiers").at("host").at("high_water"), 301);
}

}  // namespace
}  // namespace sluice::launcher
