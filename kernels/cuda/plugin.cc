// libsluice_cuda.so: what kernels/cuda_plugin.h asks of a plugin. Chooses the GPU, or says why none
// can be used.
#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/launches.h"
#include "kernels/cuda/load_kernels.h"
#include "kernels/cuda/locality.h"
#include "kernels/cuda_plugin.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

/// Every refusal is a phrase without a full stop.
struct Refusal : DeviceError {
  using DeviceError::DeviceError;
};

int count_devices() {
  int count = 0;
  // cudaGetDeviceCount() leaves `count` unwritten where it fails.
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    int wanted = 0;
    cudaRuntimeGetVersion(&wanted);
    if (driver == 0) throw Refusal("no NVIDIA driver is loaded");
    throw Refusal(fmt::format("the NVIDIA driver supports CUDA {}.{}, but CUDA {} is needed",
                              driver / 1000, driver % 1000 / 10, wanted / 1000));
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    throw Refusal("no CUDA device is visible");
  }
  check(status, "cudaGetDeviceCount");
  return count;
}

/// "cuda:N": N. Else the only device there is, or one for each rank of the host.
int choose_device(const kernels::EngineOptions& options, int count) {
  constexpr const char* kPrefix = "cuda:";
  if (options.device.rfind(kPrefix, 0) != 0) {
    return count == 1 ? 0 : options.local_rank % count;
  }
  const char* const digits = options.device.c_str() + std::strlen(kPrefix);
  const char* const end = options.device.c_str() + options.device.size();
  int device = -1;
  const auto [rest, error] = std::from_chars(digits, end, device);
  if (error != std::errc() || rest != end || device < 0) {
    throw Refusal(fmt::format("device '{}' is not cuda:N", options.device));
  }
  if (device >= count) {
    throw Refusal(fmt::format("there is no device {}: {} {} visible", device, count,
                              count == 1 ? "is" : "are"));
  }
  return device;
}

/// What a driver may be too old, or too odd, for costs time, and nothing else.
void try_to_load_kernels() {
  try {
    load_kernels();
  } catch (const DeviceError&) {
    cudaGetLastError();
  }
}

}  // namespace

/// Of inputs and outputs of a product: what the weights are, where tensor cores take it.
static DType compute_dtype(DType weights) {
  return weights == DType::bf16 || weights == DType::f16 ? weights : DType::f32;
}

static std::string pci_id_of(int device) {
  std::array<char, 32> id = {};
  check(cudaDeviceGetPCIBusId(id.data(), static_cast<int>(id.size()), device),
        "cudaDeviceGetPCIBusId");
  return id.data();
}

static BackendInfo describe(int device, const cudaDeviceProp& properties,
                            const kernels::EngineOptions& options, int threads) {
  BackendInfo info;
  info.kind = "cuda";
  info.description =
      fmt::format("cuda:{} ({}, {} GiB, sm_{}{}; {} host threads)", device, properties.name,
                  properties.totalGlobalMem >> 30U, properties.major, properties.minor, threads);
  info.compute_dtype = compute_dtype(options.weight_dtype);
  info.threads = 0;
  info.samples = true;
  info.loads_kernels = true;
  info.device_id = fmt::format("{} {}", pci_id_of(device), device_uuid(device));
  info.device_bytes = properties.totalGlobalMem;
  return info;
}

static kernels::Engine make_engine(const kernels::EngineOptions& options) {
  // Read before the first call of CUDA: lanes that share a hardware queue wait for each other.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  const int device = choose_device(options, count_devices());
  check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties = {};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  if (!has_code_for_device()) {
    throw Refusal(
        fmt::format("{} is of compute capability {}.{}, which this plugin was not built for",
                    properties.name, properties.major, properties.minor));
  }
  prepare_attention();
  try_to_load_kernels();
  const int threads =
      options.threads > 0 ? options.threads : kernels::default_threads(options.ranks_on_host);
  BackendInfo info = describe(device, properties, options, threads);
  // Before any thread or any large memory is made: both stay where they begin.
  if (const auto near = processors_near(pci_id_of(device), "/sys/bus/pci/devices")) {
    stay_near(*near, threads);
  }
  auto backend = std::make_unique<CudaBackend>(std::move(info), device, threads, options.trace);
  auto pool = std::make_shared<kernels::ThreadPool>(threads);
  kernels::Engine engine;
  engine.device_ops = std::make_unique<CudaOps>(*backend);
  engine.host_ops = std::make_unique<kernels::CpuOps>(backend->host(), Lane::host_compute, pool, 1);
  engine.backend = std::move(backend);
  return engine;
}

}  // namespace sluice::cuda

namespace sluice::kernels {

int sluice_engine_abi() noexcept { return kEngineAbi; }

bool sluice_make_engine(const EngineOptions* options, Engine* engine, char* reason,
                        std::size_t reason_bytes) {
  try {
    *engine = cuda::make_engine(*options);
    return true;
  } catch (const std::exception& error) {
    std::strncpy(reason, error.what(), reason_bytes - 1);
    reason[reason_bytes - 1] = '\0';
    return false;
  }
}

}  // namespace sluice::kernels
