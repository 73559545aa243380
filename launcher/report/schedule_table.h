// A pass as a table of tasks, for `generate --dry-run --schedule`.
#pragma once

#include <string>
#include <vector>

#include "offload/weights/placement.h"
#include "stage/stage_memory.h"

namespace sluice::launcher {

/// The tasks of a decode step of full GPU batches whose sequences are as long as the job's longest.
/// Columns: number; task; weight group or layer; GPU batch; resource; bytes and FLOP (work_of());
/// numbers of the tasks it comes after, "-1:7" for task 7 of the pass before. The passes before are
/// like this one. `groups` as place_weights() gave them.
std::string schedule_table(const stage::StageLayout& layout,
                           const std::vector<offload::GroupPlacement>& groups);

}  // namespace sluice::launcher
