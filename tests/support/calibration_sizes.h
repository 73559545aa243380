// Sizes with which sluice calibrate takes no time: what it measures then is caches.
#pragma once

#include "launcher/calibrate/sampler.h"

namespace sluice::support {

inline launcher::CalibrationSizes small_calibration() {
  launcher::CalibrationSizes sizes;
  sizes.seconds = 0;
  sizes.sample_seconds = 1e-4;
  sizes.samples = 3;
  sizes.width = 128;
  sizes.weight_bytes = 1 << 16;
  sizes.rows = {1, 8};
  sizes.heads = 2;
  sizes.sequences = 2;
  sizes.context = 40;
  sizes.prompt = 20;
  sizes.kv_bytes = 1 << 16;
  sizes.copy_bytes = 1 << 16;
  sizes.disk_bytes = 1 << 20;
  return sizes;
}

}  // namespace sluice::support
