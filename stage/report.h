// What a stage did, as numbers; the launcher makes tables and JSON of it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/trace.h"
#include "offload/memory_plan.h"

namespace sluice::stage {

struct TierReport {
  std::uint64_t budget = 0;  // 0: no limit
  std::uint64_t planned = 0;
  std::uint64_t high_water = 0;  // measured
};

struct StageReport {
  int rank = 0;
  std::string host;
  std::string device;  // BackendInfo::description
  std::string disk;    // DiskEngine::description, empty: no disk used
  std::int32_t first_layer = 0;
  std::int32_t layers = 0;
  std::array<double, kActivityCount> seconds = {};       // by Activity
  std::array<std::uint64_t, kActivityCount> bytes = {};  // by Activity
  offload::PerTier<TierReport> tiers = {};
  std::vector<offload::Reservation> plan;
  offload::PerTier<double> weight_share_asked = {};     // percent
  offload::PerTier<double> weight_share_achieved = {};  // percent, of bytes
  double wall_seconds = 0;                              // of the run, without loading
  double load_seconds = 0;
  std::uint64_t passes = 0;
};

/// Of the head: what the user came for.
struct RunReport {
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  /// Of completion_tokens, those of decode steps; a prompt's last chunk brings the first token of
  /// an answer, in the time of prefill.
  std::uint64_t decode_tokens = 0;
  double wall_seconds = 0;
  /// Prefill and decode share passes; each pass's time is given to its tokens in proportion to new
  /// tokens of prefill and decode, weighed equally.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

}  // namespace sluice::stage
