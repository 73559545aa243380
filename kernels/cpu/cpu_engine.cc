#include <fmt/core.h>

#include <memory>
#include <utility>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"
#include "kernels/engine.h"

namespace sluice::kernels {

namespace {
constexpr int kMostThreads = 1024;
}  // namespace

Engine make_cpu_engine(const EngineOptions& options) {
  if (options.threads < 0 || options.threads > kMostThreads) {
    throw ConfigError(fmt::format("threads: {} is not in 0 ... {}; 0 takes this host's cores",
                                  options.threads, kMostThreads));
  }
  const int threads =
      options.threads > 0 ? options.threads : default_threads(options.ranks_on_host);
  BackendInfo info;
  info.kind = "cpu";
  info.description = fmt::format("cpu ({}, {} {})", instruction_set(), threads,
                                 threads == 1 ? "thread" : "threads");
  info.compute_dtype = DType::f32;
  info.threads = threads;

  auto backend = std::make_unique<CpuBackend>(
      std::move(info), options.trace,
      CopyLimits{options.host_to_device_gbps, options.device_to_host_gbps});
  auto pool = std::make_shared<ThreadPool>(threads);
  Engine engine;
  engine.device_ops = std::make_unique<CpuOps>(*backend, Lane::compute, pool, 0);
  engine.host_ops = std::make_unique<CpuOps>(*backend, Lane::host_compute, pool, 1);
  engine.backend = std::move(backend);
  return engine;
}

}  // namespace sluice::kernels
