// A pass as the numbers that its schedule and its work depend on.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "offload/weights/placement.h"
#include "stage/pass.h"
#include "stage/schedule.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

/// Of a stage: all that is alike for every pass. `groups` as place_weights() gave them.
ScheduleShape schedule_shape(const StageLayout& layout,
                             const std::vector<offload::GroupPlacement>& groups);

/// Sets what is this pass's alone. `tier_of(slot)`: where a sequence's cache lives. Allocates
/// nothing once `shape` has had as many GPU batches.
void set_pass(ScheduleShape& shape, const StageLayout& layout, const Pass& pass,
              const std::function<offload::Tier(std::int32_t slot)>& tier_of);

/// A decode step of full GPU batches, each sequence `context` tokens long with the new one: what a
/// run does most of the time. The slots are those of the first micro-batch.
Pass decode_pass(const StageLayout& layout, std::int32_t context);

/// Whether every row has one new token that follows on what is cached, and guesses at most: a pass
/// of the steady state.
bool decodes(const Pass& pass);

/// Rows whose logits, or final hidden states, are wanted.
std::int64_t logits_wanted(const PassRow& row);

}  // namespace sluice::stage
