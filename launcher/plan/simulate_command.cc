#include "launcher/plan/simulate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
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

SimulatedJob job_of(const RunConfig& config, std::int32_t ranks, const Machine& machine) {
  const OpenedModel model = open_weights(config);
  if (ranks > model.folder.config.layers) {
    throw ConfigError(
        fmt::format("--ranks: {} stages are more than the model's {} layers; use fewer", ranks,
                    model.folder.config.layers));
  }
  const auto stages = stages_of(config, ranks, model.folder.config);
  const RunJob run_job(config, model.folder, config.batching.slots(ranks), false);
  const JobScan& scan = run_job.scan();
  RunConfig used = config;
  used.batching.max_sequence_tokens = std::max(scan.longest_sequence, 1);
  used.batching.usual_sequence_tokens = std::min(scan.usual_sequence, scan.longest_sequence);
  return paper_job(used, stages, model, machine,
                   requests_of(scan, std::numeric_limits<std::size_t>::max()));
}

void write_trace(const SimulatedRun& run, const std::string& path) {
  std::vector<std::string> events;
  const std::size_t most = most_spans(static_cast<int>(run.stages.size()));
  for (std::size_t s = 0; s < run.stages.size(); ++s) {
    StageTrace trace;
    trace.rank = run.stages[s].rank;
    trace.host = run.stages[s].host;
    trace.spans = run.spans[s];
    if (trace.spans.size() > most) {
      trace.dropped = trace.spans.size() - most;
      trace.spans.resize(most);
    }
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
  const SimulatedJob job = job_of(config, ranks, machine);
  check_capacity(job, machine);
  SimulationOptions options;
  options.spans = !config.report.trace.empty();
  const SimulatedRun run = simulate(job, machine, options);
  const Prediction prediction{run.run.wall_seconds, run.run.prefill_seconds,
                              run.run.decode_seconds};
  if (!config.report.quiet) {
    out << fmt::format("simulated on machine '{}'{}; nothing ran\n", machine.name,
                       machine.on_paper ? ", which is on paper" : "");
    out << memory_table(run.stages) << report_text(run.stages, run.run);
    out << prediction_line(prediction) << '\n';
  }
  if (!config.report.file.empty()) {
    ReportFacts facts{command_line, config.model, to_yaml(config), "simulated",
                      std::chrono::system_clock::now()};
    facts.prediction = prediction;
    facts.simulated = true;
    write_report_file(config.report.file, report_json(run.stages, run.run, facts));
  }
  if (options.spans) write_trace(run, config.report.trace);
}

}  // namespace sluice::launcher
