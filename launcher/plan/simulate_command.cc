#include "launcher/plan/simulate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/config/config_yaml.h"
#include "launcher/config/shard.h"
#include "launcher/generate/rank.h"
#include "launcher/generate/run_job.h"
#include "launcher/planner/paper_run.h"
#include "launcher/planner/prediction.h"
#include "launcher/planner/prediction_text.h"
#include "launcher/planner/present_machine.h"
#include "launcher/planner/simulator.h"
#include "launcher/report/memory_table.h"
#include "launcher/report/report_file.h"
#include "launcher/report/report_json.h"
#include "launcher/report/report_text.h"
#include "launcher/report/trace_json.h"

namespace sluice::launcher {

namespace {

/// Rows whose requests are made: many more than are simulated.
constexpr std::size_t kMostRows = 100'000;

struct PaperJob {
  SimulatedJob job;
  std::int64_t rows = 0;
};

PaperJob job_of(const RunConfig& config, std::int32_t ranks, const Machine& machine) {
  const OpenedModel model = open_weights(config);
  if (ranks > model.folder.config.layers) {
    throw ConfigError(
        fmt::format("--ranks: {} stages are more than the model's {} layers; use fewer", ranks,
                    model.folder.config.layers));
  }
  const auto stages = stages_of(config, ranks, model.folder.config);
  const RunJob run_job(config, model, config.batching.slots(ranks), false);
  const JobScan& scan = run_job.scan();
  RunConfig used = config;
  used.batching.max_sequence_tokens = std::max(scan.longest_sequence, 1);
  used.batching.usual_sequence_tokens = std::min(scan.usual_sequence, scan.longest_sequence);
  used.batching.max_rule_words = scan.most_rule_words;
  used.batching.grammars = scan.grammars;
  used.batching.features = scan.features ? model.folder.config.feature_width() : 0;
  return {paper_job(used, stages, model, machine, requests_of(scan, kMostRows)),
          scan.sequences_of(scan.rows)};
}

/// What was not simulated of the job as it is.
std::string part_text(const PredictedRun& predicted, std::int64_t rows) {
  std::string text;
  if (predicted.is_alike) {
    text +=
        "the job is too large to simulate every length: all its prompts and answers count as long "
        "as they are in the mean\n";
  }
  if (!predicted.is_whole) {
    text += fmt::format(
        "the first {} of {} sequences were simulated; the rest counts like the second half of "
        "them\n",
        predicted.rows_simulated, rows);
  }
  return text;
}

/// A simulation of its own, in which every pass counts, as far as a trace goes.
void write_trace(const SimulatedJob& job, const Machine& machine, const std::string& path) {
  SimulationOptions options;
  options.most_spans = most_spans(static_cast<int>(job.stages.size()));
  SimulatedRun run = simulate(job, machine, options);
  std::vector<std::string> events;
  for (std::size_t s = 0; s < run.stages.size(); ++s) {
    StageTrace trace;
    trace.rank = run.stages[s].rank;
    trace.host = run.stages[s].host;
    trace.spans = std::move(run.spans[s]);
    trace.is_cut_short = run.cut_short;
    events.push_back(trace_events(trace));
  }
  write_report_file(path, trace_json(events));
}

}  // namespace

void simulate_run(const RunConfig& asked, std::int32_t ranks, const std::string& command_line,
                  std::ostream& out) {
  const RunConfig config = of_shard(asked);
  if (!config.report.file.empty()) check_writable(config.report.file, "--report");
  if (!config.report.trace.empty()) check_writable(config.report.trace, "--trace");
  const Machine machine = machine_for(config.machine, "a simulation");
  if (ranks == 0) ranks = std::max(1, static_cast<std::int32_t>(config.stages.size()));
  const auto [job, rows] = job_of(config, ranks, machine);
  check_capacity(job, machine);
  const PredictedRun predicted = predict_patiently(job, rows, machine);
  const SimulatedRun& run = predicted.simulated;
  if (!config.report.quiet) {
    out << fmt::format("simulated on machine '{}'{}; nothing ran\n", machine.name,
                       machine.on_paper ? ", which is on paper" : "");
    out << part_text(predicted, rows);
    out << memory_table(run.stages) << report_text(run.stages, run.run);
    out << prediction_line(predicted.prediction, config) << '\n';
  }
  if (!config.report.file.empty()) {
    ReportFacts facts{command_line, config.model, to_yaml(config), "simulated",
                      std::chrono::system_clock::now()};
    facts.prediction = predicted.prediction;
    facts.simulated = true;
    facts.rows_simulated = predicted.rows_simulated;
    write_report_file(config.report.file, report_json(run.stages, run.run, facts));
  }
  if (!config.report.trace.empty()) write_trace(job, machine, config.report.trace);
}

}  // namespace sluice::launcher
