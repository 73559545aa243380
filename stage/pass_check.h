// Whether a pass that came from another rank is one that this stage has room for.
#pragma once

#include <cstdint>

#include "stage/pass.h"

namespace sluice::stage {

/// Throws CommError unless every count, slot, GPU batch, place and token of `pass` lies within the
/// batching and the vocabulary: buffers and tables are indexed by them. Allocates nothing.
void check_pass(const Pass& pass, const Batching& batching, std::int32_t stages,
                std::int32_t vocabulary);

}  // namespace sluice::stage
