#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/error.h"
#include "launcher/bench/child_run.h"
#include "launcher/bench/figure_table.h"
#include "launcher/bench/run_figures.h"
#include "launcher/bench/scaling.h"
#include "launcher/report/report_json.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

stage::StageReport stage_with(double compute, double pass, double message) {
  stage::StageReport report;
  for (stage::PhaseReport* phase : {&report.run, &report.decode}) {
    phase->wall_seconds = 10;
    phase->passes = 3;
    phase->totals.seconds[static_cast<std::size_t>(Activity::compute)] = compute;
    phase->totals.seconds[static_cast<std::size_t>(Activity::stall_pass)] = pass;
    phase->totals.seconds[static_cast<std::size_t>(Activity::stall_message)] = message;
  }
  return report;
}

Json report_of_two_stages() {
  stage::RunReport run;
  run.requests = 4;
  run.prompt_tokens = 100;
  run.completion_tokens = 40;
  run.decode_tokens = 36;
  run.wall_seconds = 10;
  run.prefill_seconds = 4;
  run.decode_seconds = 6;
  return Json::parse(report_json({stage_with(7, 2, 1), stage_with(9, 0.5, 0.5)}, run, {}));
}

TEST(RunFigures, AreThoseOfTheReport) {
  const RunFigures figures = figures_of(report_of_two_stages());
  EXPECT_DOUBLE_EQ(figures.prefill_rate, 25);
  EXPECT_DOUBLE_EQ(figures.decode_rate, 6);
  EXPECT_DOUBLE_EQ(figures.rate, 4);
  EXPECT_DOUBLE_EQ(figures.seconds, 10);
  EXPECT_DOUBLE_EQ(figures.predicted_seconds, 0);
  ASSERT_EQ(figures.stages.size(), 2U);
  EXPECT_DOUBLE_EQ(figures.stages[0].compute, 0.7);
  EXPECT_DOUBLE_EQ(figures.stages[0].no_pass, 0.2);
  EXPECT_DOUBLE_EQ(figures.stages[1].message, 0.05);
  EXPECT_DOUBLE_EQ(figures.bubble, (0.3 + 0.1) / 2);
  EXPECT_EQ(figures.bound, "compute");  // of the second stage, which computes longer
}

TEST(RunFigures, TakeThePredictionOfAMachineThatHasOne) {
  Json report = report_of_two_stages();
  report["prediction"] = {{"total_seconds", 8.0}, {"error", 0.25}};
  EXPECT_DOUBLE_EQ(figures_of(report).predicted_seconds, 8);
}

TEST(RunFigures, RefuseWhatIsNoReport) { EXPECT_THROW(figures_of(Json::object()), InputError); }

TEST(RunFigures, SpreadIsTheSampleDeviation) {
  EXPECT_DOUBLE_EQ(spread_of({2, 4, 6}).mean, 4);
  EXPECT_DOUBLE_EQ(spread_of({2, 4, 6}).deviation, 2);
  EXPECT_DOUBLE_EQ(spread_of({3}).deviation, 0);
}

TEST(FigureTable, HasThreeForms) {
  const std::vector<FigureColumn> columns = {
      {"model", "model", false}, {"batch", "batch"}, {"rate", "tokens/s"}, {"limit", "limit"}};
  Json rows = Json::array();
  rows.push_back({{"model", "a,b"}, {"batch", 8}, {"rate", 1.256}, {"limit", nullptr}});
  EXPECT_EQ(figure_table(columns, rows, BenchForm::markdown),
            "| model | batch | tokens/s | limit |\n"
            "| ----- | -----:| --------:| -----:|\n"
            "| a,b   |     8 |     1.26 |     - |\n");
  EXPECT_EQ(figure_table(columns, rows, BenchForm::csv),
            "model,batch,rate,limit\n\"a,b\",8,1.256,\n");
  EXPECT_EQ(Json::parse(figure_table(columns, rows, BenchForm::json)), rows);
}

TEST(ScalingPage, HoldsItsDataAndNothingFromElsewhere) {
  const Json data = {{"title", "</script><b>"}, {"rows", Json::array()}};
  const std::string page = scaling_page(data);
  EXPECT_THAT(page, HasSubstr(R"({"title":"<\/script><b>","rows":[]})"));
  EXPECT_EQ(page.find("@data@"), std::string::npos);
  for (const char* elsewhere : {"src=", "href=", "@import", "fetch("}) {
    EXPECT_EQ(page.find(elsewhere), std::string::npos) << elsewhere;
  }
}

}  // namespace
}  // namespace sluice::launcher
