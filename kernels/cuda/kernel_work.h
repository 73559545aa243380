// What a kernel must move and compute: written beside its launch, read by benchmarks.
#pragma once

namespace sluice::cuda {

struct KernelWork {
  double bytes = 0;
  double flop = 0;
};

}  // namespace sluice::cuda
