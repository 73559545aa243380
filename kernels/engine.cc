#include "kernels/engine.h"

#include "kernels/device/error.h"

namespace sluice::kernels {

Engine make_engine(const EngineOptions& options) {
  if (options.device == "cpu") return make_cpu_engine(options);
  if (options.device == "auto") {
    try {
      return make_cuda_engine(options);
    } catch (const ConfigError&) {
      return make_cpu_engine(options);  // the choice is printed: BackendInfo::description
    }
  }
  if (options.device.rfind("cuda", 0) == 0) return make_cuda_engine(options);
  throw ConfigError("device: '" + options.device + "' is not a device; use auto, cpu, cuda or cuda:N");
}

}  // namespace sluice::kernels
