// Chooses and makes the backend a stage runs on.
#pragma once

#include <string>

#include "kernels/device/trace.h"
#include "kernels/ops.h"

namespace sluice::kernels {

struct EngineOptions {
  /// "cpu"; "cuda" or "cuda:N" (never falls back); "auto": cuda where it works, else cpu.
  std::string device = "auto";
  /// Threads of the compute lane on the CPU; 0: the affinity mask shared by the ranks of this host.
  int threads = 0;
  int ranks_on_host = 1;
  int local_rank = 0;
  /// May be null; must outlive the engine. Lanes add their busy time and bytes to it.
  Trace* trace = nullptr;
};

/// Throws ConfigError "CUDA backend unavailable: <reason>" where "cuda" was asked for by name.
Engine make_engine(const EngineOptions& options);

/// The CPU engine (kernels/cpu).
Engine make_cpu_engine(const EngineOptions& options);

/// The CUDA engine, from the plugin; `cuda_unavailable.cc` refuses by name in builds without it.
Engine make_cuda_engine(const EngineOptions& options);

}  // namespace sluice::kernels
