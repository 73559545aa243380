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

/// What was done in a time, by Activity.
struct ActivityTotals {
  std::array<double, kActivityCount> seconds = {};
  std::array<std::uint64_t, kActivityCount> bytes = {};
  /// Of `seconds`, those in which the compute lane stood still; see Trace::exposed_seconds().
  std::array<double, kActivityCount> exposed = {};
};

/// What the passes' products and attention take at least: from shapes alone.
struct ComputeWork {
  double flop = 0;                 // a multiplication and its addition: 2
  std::uint64_t weight_bytes = 0;  // read, once per GPU batch
  std::uint64_t kv_bytes = 0;      // read by attention on the device
  double host_flop = 0;            // of attention beside host-resident KV ...
  std::uint64_t host_kv_bytes = 0;
};

/// Some passes of a run.
struct PhaseReport {
  double wall_seconds = 0;
  std::uint64_t passes = 0;
  ActivityTotals totals;
  ComputeWork work;
};

/// What a stage's machine can do, measured apart from any run (launcher/calibrate/short_probe.h),
/// or what the run was limited to. Per second; 0: not known.
struct MachineRates {
  double memory_read = 0;  // bytes of host memory, by this stage's threads
  double flop = 0;  // of the device, in its compute dtype; on the CPU by this stage's threads
  double host_to_device = 0;  // bytes; likewise the others
  double device_to_host = 0;
  double disk_read = 0;
  double disk_write = 0;
  double device_read = 0;  // of a device with memory of its own; -1: not known
};

struct StageReport {
  int rank = 0;
  std::string host;
  std::string device;     // BackendInfo::description
  std::string disk;       // DiskEngine::description, empty: no disk used
  std::string transport;  // of hidden states: "nccl", "mpi"; empty: there is one stage
  /// "eth0 10.77.0.1": by which its rank reaches other hosts; empty: all ranks are on one host, or
  /// MPI uses something else than TCP.
  std::vector<std::string> interfaces;
  std::int32_t first_layer = 0;
  std::int32_t layers = 0;
  ActivityTotals load;
  PhaseReport run;     // without loading
  PhaseReport decode;  // of the run, the passes with one new token per row: its steady state
  bool measures_stalls = false;  // ActivityTotals::exposed and the stall_... are known
  MachineRates rates;
  offload::PerTier<TierReport> tiers = {};
  std::vector<offload::Reservation> plan;
  offload::PerTier<double> weight_share_asked = {};     // percent
  offload::PerTier<double> weight_share_achieved = {};  // percent, of bytes
  std::string cache_dtype;                              // "f16": the KV cache's elements
  /// Of all sequences: tokens in the KV cache at their ends, and what the pages they took can hold.
  std::uint64_t cache_tokens_stored = 0;
  std::uint64_t cache_tokens_taken = 0;
  double load_seconds = 0;
};

/// Of the head: what the user came for.
struct RunReport {
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
  bool stopped = false;  // before its end, as HeadLine::stop() asked
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  /// Of completion_tokens, those of decode steps; a prompt's last chunk brings the first token of
  /// an answer, in the time of prefill.
  std::uint64_t decode_tokens = 0;
  /// Times that an unfinished row gave its pages of the KV cache to an older one, and tokens that
  /// were computed again for that.
  std::uint64_t stepped_back = 0;
  std::uint64_t recomputed_tokens = 0;
  /// Tokens that were guessed, and those of them that became answers: each saved its row a pass.
  std::uint64_t drafted_tokens = 0;
  std::uint64_t accepted_tokens = 0;
  /// Of prompt_tokens, those that were not computed, as other prompts had begun with them.
  std::uint64_t shared_prefix_tokens = 0;
  double wall_seconds = 0;
  /// Prefill and decode share passes; each pass's time is given to its tokens in proportion to new
  /// tokens of prefill and decode, weighed equally.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

}  // namespace sluice::stage
