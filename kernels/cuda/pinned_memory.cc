#include "kernels/cuda/pinned_memory.h"

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPartBytes = std::size_t{64} << 20;  // worth a thread

/// Brings the pages into being.
void touch(std::byte* begin, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += kPageBytes) {
    *static_cast<volatile std::byte*>(begin + at) = std::byte{0};
  }
}

void touch_all(const Memory& memory, int threads) {
  const std::size_t parts = std::clamp<std::size_t>(memory.bytes() / kPartBytes, 1,
                                                    static_cast<std::size_t>(std::max(threads, 1)));
  const std::size_t part = (memory.bytes() / parts + kPageBytes) / kPageBytes * kPageBytes;
  std::vector<std::thread> helpers;
  for (std::size_t i = 1; i < parts; ++i) {
    const std::size_t begin = std::min(i * part, memory.bytes());
    helpers.emplace_back(touch, memory.data() + begin, std::min(part, memory.bytes() - begin));
  }
  touch(memory.data(), std::min(part, memory.bytes()));
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace

Memory pinned_memory(std::size_t bytes, int threads) {
  if (bytes == 0) return {};
  {
    Memory mapped = map_memory(bytes, "pinned host memory");
    touch_all(mapped, threads);
    if (cudaHostRegister(mapped.data(), bytes, cudaHostRegisterPortable) == cudaSuccess) {
      return {mapped.release(), bytes, [](void* block, std::size_t size) {
                cudaHostUnregister(block);
                unmap_memory(block, size);
              }};
    }
    cudaGetLastError();  // a refusal leaves the device as it was
  }
  void* data = nullptr;
  if (const cudaError_t status = cudaHostAlloc(&data, bytes, cudaHostAllocPortable);
      status != cudaSuccess) {
    cudaGetLastError();
    throw CapacityError(
        fmt::format("pinned host memory: {} bytes are wanted and cannot be had ({}); use "
                    "--pin-weight 0, or move shares to disk",
                    bytes, cudaGetErrorName(status)));
  }
  std::memset(data, 0, bytes);
  return {data, bytes, [](void* block, std::size_t) { cudaFreeHost(block); }};
}

}  // namespace sluice::cuda
