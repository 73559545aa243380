#include "launcher/planner/prediction_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "launcher/report/durations.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

constexpr Activity kShown[] = {Activity::compute,        Activity::host_compute,
                               Activity::host_to_device, Activity::device_to_host,
                               Activity::disk_read,      Activity::disk_write};

std::string error_text(double measured, double predicted) {
  if (!(predicted > 0)) return "-";
  return fmt::format("{:+.0f} %", 100 * (measured / predicted - 1));
}

std::vector<std::string> row(const std::string& stage, const char* what, double predicted,
                             double measured) {
  return {stage, what, fmt::format("{:.2f}", predicted), fmt::format("{:.2f}", measured),
          error_text(measured, predicted)};
}

}  // namespace

std::string prediction_line(const Prediction& prediction, const RunConfig& config) {
  return fmt::format(
      "predicted: {} (prefill {}, decode {}){}", format_seconds(prediction.total_seconds),
      format_seconds(prediction.prefill_seconds), format_seconds(prediction.decode_seconds),
      not_counted(config.batching.draft_tokens > 0, !config.lora.empty()));
}

std::string not_counted(bool guesses, bool adapters) {
  std::vector<std::string> names;
  if (guesses) names.emplace_back("guesses (draft)");
  if (adapters) names.emplace_back("the adapters' products (lora)");
  return names.empty() ? "" : fmt::format("; not counted: {}", fmt::join(names, ", "));
}

std::string prediction_text(const PredictedRun& predicted,
                            const std::vector<stage::StageReport>& stages,
                            const stage::RunReport& run) {
  TextTable table("rlrrr", {"stage", "", "predicted", "measured", "error"});
  const Prediction& all = predicted.prediction;
  table.add(row("", "all", all.total_seconds, run.wall_seconds));
  table.add(row("", "prefill", all.prefill_seconds, run.prefill_seconds));
  table.add(row("", "decode", all.decode_seconds, run.decode_seconds));
  const std::size_t count = std::min(stages.size(), predicted.simulated.stages.size());
  for (std::size_t s = 0; s < count; ++s) {
    for (const Activity activity : kShown) {
      const auto a = static_cast<std::size_t>(activity);
      const double said = predicted.simulated.stages[s].run.totals.seconds[a];
      const double took = stages[s].run.totals.seconds[a];
      if (std::max(said, took) < 0.001 * run.wall_seconds) continue;
      table.add(row(fmt::format("{}", s), name_of(activity), said, took));
    }
  }
  return "\nPredicted from this machine's rates, in seconds:\n" + table.text(2);
}

}  // namespace sluice::launcher
