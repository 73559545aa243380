#include "kernels/engine.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/cuda_plugin.h"

namespace sluice::kernels {

namespace {

/// "cuda", or "cuda:N" with N of at most four digits.
bool names_cuda(const std::string& device) {
  if (device == "cuda") return true;
  const std::string prefix = "cuda:";
  if (device.rfind(prefix, 0) != 0) return false;
  const std::string index = device.substr(prefix.size());
  return !index.empty() && index.size() <= 4 &&
         std::all_of(index.begin(), index.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Engine make_auto_engine(const EngineOptions& options) {
  if (!seeks_cuda() || !has_cuda_driver()) return make_cpu_engine(options);
  try {
    return make_cuda_engine(options);
  } catch (const CudaUnavailable& unavailable) {
    // BackendInfo::description says which device was taken. Only this place knows why. It writes in
    // one call, so that lines of several ranks do not mix; a closed stderr is no error.
    const std::string line = fmt::format(
        "sluice: CUDA backend unavailable: {}; device auto takes the CPU\n", unavailable.reason);
    if (options.local_rank > 0) return make_cpu_engine(options);  // one speaks for its host
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  }
  return make_cpu_engine(options);
}

}  // namespace

Engine make_engine(const EngineOptions& options) {
  if (options.device == "cpu") return make_cpu_engine(options);
  if (options.device == "auto") return make_auto_engine(options);
  if (names_cuda(options.device)) return make_cuda_engine(options);
  throw ConfigError("device: '" + options.device +
                    "' is not a device; use auto, cpu, cuda or cuda:N");
}

}  // namespace sluice::kernels
