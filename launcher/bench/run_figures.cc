#include "launcher/bench/run_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

double number_or_zero(const Json& json) { return json.is_number() ? json.number() : 0; }

StageShares shares_of(const Json& phase) {
  const double wall = phase.at("wall_seconds").number();
  const auto share = [&](const char* activity) {
    return wall > 0 ? phase.at("activities").at(activity).at("seconds").number() / wall : 0;
  };
  StageShares shares;
  shares.weights = share("stall_weights");
  shares.kv = share("stall_KV") + share("stall_host_compute");
  shares.activations = share("stall_activations") + share("stall_results");
  shares.message = share("stall_message");
  shares.no_pass = share("stall_pass");
  shares.other = share("stall_other");
  shares.compute = share("compute");
  return shares;
}

/// Of the stage whose device computes longest.
void set_bound(const Json& stages, RunFigures& figures) {
  double most = -1;
  for (const Json& stage : stages) {
    const Json& decode = stage.at("decode");
    const Json& phase = decode.at("wall_seconds").number() > 0 ? decode : stage.at("run");
    const double compute = phase.at("activities").at("compute").at("seconds").number();
    if (compute <= most) continue;
    most = compute;
    figures.bound = phase.at("bound").at("resource").text();
    figures.of_bound = 0;
    for (const Json& use : phase.member("resources")) {
      if (use.at("name").text() == figures.bound) {
        figures.of_bound = number_or_zero(use.at("of_measured"));
      }
    }
  }
}

RunFigures read(const Json& report) {
  RunFigures figures;
  const Json& run = report.at("run");
  figures.prefill_rate = number_or_zero(run.at("prefill_tokens_per_second"));
  figures.decode_rate = number_or_zero(run.at("decode_tokens_per_second"));
  figures.rate = number_or_zero(run.at("completion_tokens_per_second"));
  figures.seconds = run.at("wall_seconds").number();
  if (const Json* const prediction = report.find("prediction")) {
    figures.predicted_seconds = number_or_zero(prediction->member("total_seconds"));
  }
  const Json& stages = report.at("stages");
  for (const Json& stage : stages) {
    figures.stages.push_back(shares_of(stage.at("run")));
    figures.bubble += figures.stages.back().message + figures.stages.back().no_pass;
  }
  figures.bubble /= static_cast<double>(std::max<std::size_t>(stages.size(), 1));
  set_bound(stages, figures);
  return figures;
}

}  // namespace

RunFigures figures_of(const Json& report) {
  try {
    return read(report);
  } catch (const JsonError& error) {
    throw InputError(fmt::format("a run's report cannot be understood: {}", error.what()));
  }
}

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  if (values.empty()) return spread;
  const auto count = static_cast<double>(values.size());
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (values.size() > 1) spread.deviation = std::sqrt(squares / (count - 1));
  return spread;
}

}  // namespace sluice::launcher
