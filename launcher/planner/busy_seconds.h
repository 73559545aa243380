// How long passes keep each resource of a stage busy: the schedule that the executor would run,
// every task priced. A search asks for it thousands of times; simulate() has the last word.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "launcher/planner/cost_model.h"
#include "offload/weights/placement.h"
#include "stage/pass.h"
#include "stage/schedule.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// Of one pass. Linear: sums and multiples mean what they say.
struct BusySeconds {
  std::array<double, stage::kResourceCount> of = {};
  /// The compute lane stands still where the host attends longer than the device does.
  double device_attention = 0;
  double host_attention = 0;
  /// Of what the host's ranks share: see TaskCost.
  double cores = 0;
  double memory_bytes = 0;
  double link = 0;
  double disk = 0;

  double& operator[](stage::Resource resource) { return of[static_cast<std::size_t>(resource)]; }
  double operator[](stage::Resource resource) const {
    return of[static_cast<std::size_t>(resource)];
  }
  BusySeconds& add(const BusySeconds& other, double times = 1);
};

/// A bound on a pass's seconds: a sum over what keeps its resources busy. A pass takes at least the
/// largest of these.
struct BusyRow {
  const char* name = "";  // for people: "disk", "compute", "host memory"
  stage::Resource resource = stage::Resource::none;
  bool shared = false;  // a bound of what the host's ranks share
  BusySeconds factors;

  double of(const BusySeconds& busy) const;
  /// False: the resource does nothing, so that nobody waits for it.
  bool counts(const BusySeconds& busy) const;
};

/// Of stages of which `ranks_on_host` alike share a host. The slowdowns are in the factors.
std::vector<BusyRow> busy_rows(const CostModel& cost, std::int32_t ranks_on_host);

struct PassSeconds {
  double seconds = 0;
  const char* binding = "";  // BusyRow::name of what takes longest
};
PassSeconds pass_seconds(const BusySeconds& busy, const std::vector<BusyRow>& rows);

/// The two kinds of passes that a job is made of.
struct PassMix {
  std::int32_t prompt_tokens = 1;
  std::int32_t context = 1;  // of a sequence in the middle of its answer
};
struct StageBusy {
  BusySeconds prefill;  // GPU batches full of prompts
  BusySeconds decode;   // a token for every sequence
};

/// New tokens of a GPU batch in a pass of prefill.
std::int32_t prefill_tokens(const stage::Batching& batching, const PassMix& mix);
/// Passes that bring the prompts of a micro-batch in.
std::int32_t prefill_passes(const stage::Batching& batching, const PassMix& mix);
/// Its rows are prompts from their beginning, or one chunk from the middle of a long prompt.
stage::Pass prefill_pass(const stage::StageLayout& layout, const PassMix& mix);

/// `groups` as place_weights() gave them for the layout.
StageBusy stage_busy(const stage::StageLayout& layout,
                     const std::vector<offload::GroupPlacement>& groups, const CostModel& cost,
                     const PassMix& mix);

}  // namespace sluice::launcher
