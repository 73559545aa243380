// The plan of all stages as a table, printed before anything is loaded.
#pragma once

#include <string>
#include <vector>

#include "stage/report.h"

namespace sluice::launcher {

/// Of each stage: what each tier is for, its sum and its budget. Uses rank, host, device, layers,
/// `plan` and `tiers[].budget`; empty tiers are left out, equal purposes of a tier are added up.
std::string memory_table(const std::vector<stage::StageReport>& stages);

/// "layers 0-11", "layer 3", "no layers".
std::string layers_text(const stage::StageReport& stage);

}  // namespace sluice::launcher
