#include "launcher/report/report_text.h"

#include <gtest/gtest.h>

#include "launcher/report/durations.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {
namespace {

double& seconds(stage::StageReport& report, Activity activity) {
  return report.run.totals.seconds[static_cast<std::size_t>(activity)];
}

std::vector<stage::StageReport> two_stages() {
  stage::StageReport first;
  first.rank = 0;
  first.layers = 12;
  first.load_seconds = 1.5;
  first.measures_stalls = true;
  first.run.wall_seconds = 100;
  first.run.passes = 40;
  first.run.work.weight_bytes = 820'000'000'000;
  first.run.work.flop = 4.1e12;
  first.rates = {20e9, 150e9, 10e9, 0, 2.5e9, 0};
  seconds(first, Activity::compute) = 82;
  seconds(first, Activity::stall_weights) = 10;
  seconds(first, Activity::stall_pass) = 5.5;
  seconds(first, Activity::wait_weights) = 90;  // hidden: not told
  seconds(first, Activity::disk_read) = 50;
  first.run.totals.exposed[static_cast<std::size_t>(Activity::disk_read)] = 8;
  first.run.totals.bytes[static_cast<std::size_t>(Activity::disk_read)] = 100ULL << 30U;
  first.tiers[0] = {16ULL << 30U, 15ULL << 30U, 14ULL << 30U};
  first.tiers[1] = {0, 1ULL << 30U, 1ULL << 30U};
  first.weight_share_asked = {20, 50, 30};
  first.weight_share_achieved = {19.96, 50.04, 30};
  stage::StageReport second;
  second.rank = 1;
  second.first_layer = 12;
  second.layers = 1;
  second.measures_stalls = true;  // it never began
  return {first, second};
}

TEST(ReportText, SaysWhatCameOutAndWhereTimeAndMemoryWent) {
  stage::RunReport run;
  run.requests = 1000;
  run.failed = 3;
  run.prompt_tokens = 51200;
  run.completion_tokens = 3200;
  run.wall_seconds = 100;
  run.prefill_seconds = 80;
  run.decode_tokens = 2200;
  run.decode_seconds = 20;
  EXPECT_EQ(report_text(two_stages(), run), R"(1000 prompts in 1 min 40 s, 3 failed
                        tokens  seconds  tokens/s
  prefill                51200    80.00     640.0
  decode                  2200    20.00     110.0
  overall                54400   100.00     544.0
  answers, of all time    3200   100.00      32.0

Where each stage's time went, in seconds and percent ("for": it stood still for that):
  stage  layers  passes  load    wall     compute  for weights     for KV    no pass      other
      0  0-11        40  1.50  100.00  82.00  82%   10.00  10%  0.00   0%  5.50   6%  2.50   2%
      1  12           0  0.00    0.00   0.00    -    0.00    -  0.00    -  0.00    -  0.00    -

Memory:
  stage  tier     planned  high water    budget  weights asked  achieved
      0  device  15.0 GiB    14.0 GiB  16.0 GiB         20.0 %    20.0 %
      0  host    1.00 GiB    1.00 GiB  no limit         50.0 %    50.0 %
      0  disk         0 B         0 B  no limit         30.0 %    30.0 %

Resources in the steady state, beside what this machine measured:
  stage  resource     bytes        busy    achieved    measured  part  hidden
      0  disk read  100 GiB      50.0 s   2.15 GB/s   2.50 GB/s  86 %    84 %
      0  compute    764 GiB  1 min 22 s  10.00 GB/s  20.00 GB/s  50 %       -
  stage 0, the whole run: bound by compute, 1 min 22 s of 1 min 40 s (82 %)
)");
}

TEST(ReportText, ShowsWhatFewPoliciesWaitForWhereTheyDid) {
  std::vector<stage::StageReport> stages = two_stages();
  EXPECT_EQ(report_text(stages, {}).find("for host compute"), std::string::npos);
  seconds(stages[0], Activity::stall_host_compute) = 25;
  const std::string text = report_text(stages, {});
  EXPECT_NE(text.find("for host compute"), std::string::npos) << text;
  EXPECT_NE(text.find("25.00  25%"), std::string::npos) << text;
}

TEST(ReportText, SaysHowMuchOfThePagesWasUnused) {
  std::vector<stage::StageReport> stages = two_stages();
  stages[0].cache_tokens_taken = 2000;
  stages[0].cache_tokens_stored = 1930;
  EXPECT_NE(report_text(stages, {}).find("pages for 2000 tokens and stored 1930; 3.5 % unused\n"),
            std::string::npos);
}

TEST(ReportText, ProductsAreShownAsSuchWhereTheyAreTheBound) {
  std::vector<stage::StageReport> stages = two_stages();
  stages[0].run.work.flop = 8.2e12;
  const std::string text = report_text(stages, {});
  EXPECT_NE(text.find("100 GFLOP/s  150 GFLOP/s  67 %"), std::string::npos) << text;
}

TEST(ReportText, ADeviceThatMeasuresNoStallsHasTheExecutorsWord) {
  std::vector<stage::StageReport> stages = two_stages();
  stages[0].measures_stalls = false;
  const std::string text = report_text(stages, {});
  EXPECT_NE(text.find("as far as is known"), std::string::npos) << text;
  EXPECT_NE(text.find("90.00  90%"), std::string::npos) << text;
  EXPECT_NE(text.find("86 %       -"), std::string::npos) << "hidden: not known\n" << text;
}

TEST(ReportText, RatesWithoutTimeAreDashes) {
  stage::RunReport run;
  run.decode_tokens = 5;
  EXPECT_NE(report_text({}, run).find("decode                     5     0.00         -\n"),
            std::string::npos)
      << report_text({}, run);
}

TEST(ReportText, OnePromptAndNoStage) {
  stage::RunReport run;
  run.requests = 1;
  const std::string text = report_text({}, run);
  EXPECT_TRUE(text.starts_with("1 prompt in 0.00 s\n")) << text;
  EXPECT_EQ(text.find("nan"), std::string::npos) << text;
  EXPECT_EQ(text.find("inf"), std::string::npos) << text;
  EXPECT_EQ(text.find("Resources"), std::string::npos) << text;
}

TEST(Durations, AreReadAtAGlance) {
  EXPECT_EQ(format_seconds(0), "0.00 s");
  EXPECT_EQ(format_seconds(9.994), "9.99 s");
  EXPECT_EQ(format_seconds(9.996), "10.0 s");
  EXPECT_EQ(format_seconds(59.94), "59.9 s");
  EXPECT_EQ(format_seconds(59.96), "1 min 00 s");
  EXPECT_EQ(format_seconds(200.4), "3 min 20 s");
  EXPECT_EQ(format_seconds(3599.4), "59 min 59 s");
  EXPECT_EQ(format_seconds(3599.6), "1 h 00 min");
  EXPECT_EQ(format_seconds(7500), "2 h 05 min");
  EXPECT_EQ(format_seconds(27 * 3600), "1 d 03 h");
  EXPECT_EQ(format_seconds(-1), "?");
  EXPECT_EQ(format_seconds(0.0 / 1e-300 / 0.0), "?");
  EXPECT_EQ(format_seconds(1e300), "?");
}

TEST(TextTable, LinesCellsUp) {
  TextTable table("lr", {"name", "bytes"});
  table.add({"é", "5"});
  table.add({"only"});
  EXPECT_EQ(table.text(1), " name  bytes\n é         5\n only\n");
}

}  // namespace
}  // namespace sluice::launcher
