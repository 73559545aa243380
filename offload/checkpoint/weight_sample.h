// Whether two checkpoints of one form have the same weights, without reading them.
#pragma once

#include <cstdint>

#include "offload/checkpoint/checkpoint.h"

namespace sluice::offload {

/// A digest of 64 short pieces, spread evenly over the bytes of all files: a model that was trained
/// further has another one. Throws InputError, IoError.
std::uint64_t sample_of(const Checkpoint& checkpoint);

}  // namespace sluice::offload
