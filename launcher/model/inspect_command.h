// `sluice inspect`: says what a model is and whether it fits, reading only the headers of its
// files.
#pragma once

#include <cstdint>
#include <iostream>
#include <string>

#include "offload/policy.h"

namespace sluice::launcher {

struct InspectOptions {
  std::uint64_t device_memory = 0;  // bytes per stage; 0: not said
  std::uint64_t host_memory = 0;    // bytes per stage; 0: not said
  std::int32_t stages = 1;
  /// Weights are counted as they are when they are compressed so.
  offload::Compression compress_weight = offload::Compression::none;
  bool json = false;  // one JSON object instead of text
};

/// Returns the exit status: done, or no_space where the weights cannot even be streamed through the
/// device memory given. Throws InputError, ConfigError.
int inspect(const std::string& model, const InspectOptions& options, std::ostream& out = std::cout);

}  // namespace sluice::launcher
