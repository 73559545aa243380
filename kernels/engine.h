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
  /// Of the model's matrices in the checkpoint. A GPU computes in it (quantised or not).
  DType weight_dtype = DType::f32;
  /// Of the CPU backend's copies, in 10^9 bytes per second; 0: as fast as they are.
  double host_to_device_gbps = 0;
  double device_to_host_gbps = 0;
  /// May be null; must outlive the engine. Lanes add their busy time and bytes to it.
  Trace* trace = nullptr;
};

/// Throws ConfigError "CUDA backend unavailable: <reason>" where "cuda" was asked for by name.
/// Where "auto" finds CUDA unavailable in a build that seeks it, on a machine with a driver, the
/// reason goes to stderr, one line.
Engine make_engine(const EngineOptions& options);

/// The CPU engine (kernels/cpu).
Engine make_cpu_engine(const EngineOptions& options);

/// The CUDA engine, of the plugin that lies beside the program, in ../lib/sluice from there, or
/// where the loader looks (cuda_plugin.cc). Builds without it refuse by name (cuda_unavailable.cc).
Engine make_cuda_engine(const EngineOptions& options);

/// Whether this build looks for the plugin: the option SLUICE_CUDA.
bool seeks_cuda();

/// Whether this machine has an NVIDIA driver's library: without it the plugin need not be asked.
bool has_cuda_driver();

}  // namespace sluice::kernels
