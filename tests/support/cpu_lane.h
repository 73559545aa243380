// What an operation of the CPU engine runs on, by hand: for tests that choose which product runs.
#pragma once

#include <cstddef>

#include "kernels/cpu/context.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device/cpu_backend.h"

namespace sluice::support {

class CpuLane {
 public:
  explicit CpuLane(int threads)
      : pool_(threads),
        scratch_(map_memory(
            static_cast<std::size_t>(pool_.workers() * kernels::kScratchFloats) * sizeof(float),
            "scratch")),
        shared_(map_memory(static_cast<std::size_t>(kernels::kSharedBytes), "scratch")) {
    context_ = {&pool_, 0, reinterpret_cast<float*>(scratch_.data()), shared_.data()};
  }
  const kernels::CpuContext& context() const { return context_; }

 private:
  kernels::ThreadPool pool_;
  Memory scratch_;
  Memory shared_;
  kernels::CpuContext context_;
};

}  // namespace sluice::support
