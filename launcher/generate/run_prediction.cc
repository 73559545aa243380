#include "launcher/generate/run_prediction.h"

#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "launcher/planner/machine_file.h"
#include "launcher/planner/present_machine.h"

namespace sluice::launcher {

namespace {

/// Rows whose requests are made: a prediction simulates fewer, unless they are short.
constexpr std::size_t kMostRows = 100'000;
/// The run waits for its prediction. This many take a second or two; then it is given up.
constexpr std::uint64_t kMostEvents = 500'000;

std::optional<PredictedRun> predicted(const RunConfig& config, const OpenedModel& model,
                                      const JobScan& scan, const SequenceTokens& tokens,
                                      const comm::World& world, const std::string& device_kind) {
  std::optional<Machine> found = find_machine(config.machine);
  if (!found || found->device.kind != device_kind || !predicts(*found)) return std::nullopt;
  const std::int64_t rows = scan.sequences_of(scan.rows - scan.answered);
  std::vector<SimulatedRequest> requests = requests_of(scan, kMostRows);
  if (requests.empty() || rows <= 0) return std::nullopt;
  requests.resize(std::min(requests.size(), static_cast<std::size_t>(rows)));
  const Machine machine = with_ranks_of(world, *std::move(found));
  RunConfig used = config;
  used.batching.max_sequence_tokens = tokens.longest;
  used.batching.usual_sequence_tokens = std::min(tokens.usual, tokens.longest);
  used.batching.max_rule_words = tokens.rule_words;
  used.batching.grammars = tokens.grammars;
  used.batching.features = tokens.features ? model.folder.config.feature_width() : 0;
  const auto stages = stages_of(config, world.size(), model.folder.config);
  SimulationOptions options;
  options.most_events = kMostEvents;
  return predict(paper_job(used, stages, model, machine, std::move(requests)), rows, machine,
                 options);
}

}  // namespace

std::optional<PredictedRun> predict_run(const RunConfig& config, const OpenedModel& model,
                                        const JobScan& scan, const SequenceTokens& tokens,
                                        const comm::World& world, const std::string& device_kind) {
  try {
    return predicted(config, model, scan, tokens, world, device_kind);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace sluice::launcher
