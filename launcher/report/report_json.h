// Reports as JSON: how ranks hand theirs to the head, and the file of --report.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "launcher/report/prediction.h"
#include "stage/report.h"

namespace sluice::launcher {

/// One line. Every number of the report is in it; text that is not UTF-8 is mended with U+FFFD.
std::string stage_report_to_json(const stage::StageReport& report);
/// Throws InputError naming what is missing or of the wrong type.
stage::StageReport stage_report_from_json(const std::string& json);

/// What stands above the numbers.
struct ReportFacts {
  std::string command_line;
  std::string model;
  std::string config_yaml;
  std::string world;  // "mpi", "local"
  std::chrono::system_clock::time_point date;
  std::optional<Prediction> prediction = std::nullopt;
  bool simulated = false;  // nothing ran: all times are the prediction's
  /// ... and so many rows were simulated, the first. The rest is extrapolated.
  std::int64_t rows_simulated = 0;
  std::optional<int> slurm_restarts = std::nullopt;
  JournalUse journal = {};
};

/// How often Slurm has started this job again (SLURM_RESTART_COUNT); nothing where it has not.
std::optional<int> slurm_restarts();

/// The report file: {"format": "sluice-report", "format_version": 1, "version", "date" (UTC, ISO
/// 8601), "command", "model", "world", "simulated", "slurm_restarts", "config", "prediction",
/// "run": {...}, "stages": [...]}; indented. "prediction" is null where there was none; else it has
/// "total_seconds", "prefill_seconds", "decode_seconds" and "error", which is measured over
/// predicted, less one (null where nothing was measured).
/// A simulated report has "rows_simulated", too.
/// "interfaces" of a stage: how its rank reaches other hosts ("eth0 10.77.0.1").
/// Times in seconds, sizes in bytes, rates per second (null where they are not known). Of a stage,
/// "load", "run" and "decode" (the passes that only decode) have "activities" (by Activity), the
/// latter two "work" (what computing took at least), "resources" and "bound" (resources.h).
std::string report_json(const std::vector<stage::StageReport>& stages, const stage::RunReport& run,
                        const ReportFacts& facts);

}  // namespace sluice::launcher
