// Spans of all stages as a Chrome trace: opens in ui.perfetto.dev and chrome://tracing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/trace.h"

namespace sluice::launcher {

/// One stage: a process of the trace. Activities are its threads; where spans of an activity
/// overlap (a deep disk queue), further threads "disk read 2", ... take them, since a thread can
/// only nest.
struct StageTrace {
  int rank = 0;
  std::string host;
  std::vector<Span> spans;
  std::uint64_t dropped = 0;   // spans that were not kept: said in the process' name
  bool is_cut_short = false;   // ... nobody knows how many
  std::int64_t offset_ns = 0;  // added to all times, to bring ranks to one clock
};

/// Most spans of each of `ranks` >= 1 stages: so few that the events of all fit one
/// comm::World::gather, and each rank's memory.
std::size_t most_spans(int ranks);

/// The stage's events, comma-separated, without brackets: what ranks hand to the head.
std::string trace_events(const StageTrace& trace);

/// The file, of every rank's events (some may be empty).
std::string trace_json(const std::vector<std::string>& events_of_ranks);

}  // namespace sluice::launcher
