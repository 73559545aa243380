#include "tests/support/cuda_emulation/memory.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"

namespace sluice::emulated {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kAlignment = 256;                  // of cudaMalloc
constexpr std::size_t kReserved = std::size_t{1} << 38;  // of addresses, never used twice
constexpr std::size_t kPoisoned = 1 << 20;               // at either end of a new block
constexpr std::byte kPoison{0xFF};                       // NaN in every dtype

struct Block {
  Place::Kind kind = Place::Kind::device;
  int device = 0;
  std::size_t bytes = 0;
  bool registered = false;       // plain memory of the caller
  std::byte* mapping = nullptr;  // whole pages: device memory ends within kAlignment of their end,
  std::size_t mapped = 0;        // pinned memory begins with them
};

/// Every block that lives, by its first address.
class Blocks {
 public:
  void* make(Place::Kind kind, int device, std::size_t bytes);
  /// False: no block of this kind begins there.
  bool free(void* first, Place::Kind kind);
  cudaError_t note(void* first, std::size_t bytes);
  cudaError_t forget(void* first);
  Place find(const void* first, std::size_t bytes);
  std::size_t used(int device);

 private:
  static std::byte* reserve();
  static void check_margins(const std::byte* first, const Block& block);
  bool overlaps(std::uintptr_t first, std::size_t bytes) const;

  std::mutex mutex_;
  std::map<std::uintptr_t, Block> blocks_;
  std::byte* const reserved_ = reserve();
  std::byte* next_ = reserved_ + kPage;
  std::vector<std::size_t> used_ = std::vector<std::size_t>(8);
};

/// Never destroyed: threads of streams may outlive main().
Blocks& blocks() {
  static Blocks* const one = new Blocks;
  return *one;
}

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

std::byte* Blocks::reserve() {
  void* const all =
      mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) {
    std::fprintf(stderr, "emulated CUDA: cannot reserve addresses\n");
    std::abort();
  }
  return static_cast<std::byte*>(all);
}

void* Blocks::make(Place::Kind kind, int device, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto& used = used_[static_cast<std::size_t>(device)];
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (kind == Place::Kind::device && used + rounded > settings().device_bytes) return nullptr;
  Block block{kind, device, bytes, false, next_, (rounded + kPage - 1) / kPage * kPage};
  if (next_ + block.mapped + kPage > reserved_ + kReserved) return nullptr;
  next_ += block.mapped + kPage;  // a page between that nobody may touch
  if (mprotect(block.mapping, block.mapped, PROT_READ | PROT_WRITE) != 0) return nullptr;
  const bool at_end = kind == Place::Kind::device;
  std::byte* const first = at_end ? block.mapping + block.mapped - rounded : block.mapping;
  const std::size_t end = std::min(block.mapped, kPoisoned);
  std::memset(block.mapping, static_cast<int>(kPoison), end);
  std::memset(block.mapping + block.mapped - end, static_cast<int>(kPoison), end);
  if (kind == Place::Kind::device) {
    used += rounded;
    if (const int key = key_of(device); key >= 0) {
      pkey_mprotect(block.mapping, block.mapped, PROT_READ | PROT_WRITE, key);
    }
  }
  blocks_[number(first)] = block;
  return first;
}

/// The bytes around the block within its pages must be unchanged.
void Blocks::check_margins(const std::byte* first, const Block& block) {
  const Access open(true);
  const auto touched = [](std::byte byte) { return byte != kPoison; };
  if (std::any_of<const std::byte*>(block.mapping, first, touched) ||
      std::any_of<const std::byte*>(first + block.bytes, block.mapping + block.mapped, touched)) {
    std::fprintf(stderr, "emulated CUDA: the bytes beside a block of %zu bytes were written\n",
                 block.bytes);
    std::abort();
  }
}

bool Blocks::free(void* first, Place::Kind kind) {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(number(first));
  if (found == blocks_.end() || found->second.kind != kind || found->second.registered) {
    return false;
  }
  const Block& block = found->second;
  check_margins(static_cast<const std::byte*>(first), block);
  if (kind == Place::Kind::device) {
    used_[static_cast<std::size_t>(block.device)] -=
        (block.bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  // The address stays reserved, and gives its memory back.
  mmap(block.mapping, block.mapped, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  blocks_.erase(found);
  return true;
}

bool Blocks::overlaps(std::uintptr_t first, std::size_t bytes) const {
  const auto after = blocks_.lower_bound(first);
  if (after != blocks_.end() && after->first < first + bytes) return true;
  if (after == blocks_.begin()) return false;
  const auto& [at, block] = *std::prev(after);
  return at + block.bytes > first;
}

cudaError_t Blocks::note(void* first, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (first == nullptr || bytes == 0) return cudaErrorInvalidValue;
  if (overlaps(number(first), bytes)) return cudaErrorHostMemoryAlreadyRegistered;
  blocks_[number(first)] = {Place::Kind::pinned, 0, bytes, true, nullptr, 0};
  return cudaSuccess;
}

cudaError_t Blocks::forget(void* first) {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(number(first));
  if (found == blocks_.end() || !found->second.registered) return cudaErrorHostMemoryNotRegistered;
  blocks_.erase(found);
  return cudaSuccess;
}

Place Blocks::find(const void* first, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const std::uintptr_t at = number(first);
  auto found = blocks_.upper_bound(at);
  if (found != blocks_.begin() && at < std::prev(found)->first + std::prev(found)->second.bytes) {
    const auto& [begin, block] = *std::prev(found);
    if (at + bytes <= begin + block.bytes) return {block.kind, block.device, true, {}};
    return {Place::Kind::bad, 0, false,
            std::to_string(bytes) + " bytes at " + std::to_string(at - begin) + " of a block of " +
                std::to_string(block.bytes)};
  }
  if (at >= number(reserved_) && at < number(reserved_) + kReserved) {
    return {Place::Kind::bad, 0, false, "an address that is not, or no longer, allocated"};
  }
  if (first == nullptr) return {Place::Kind::bad, 0, false, "a null pointer"};
  return {Place::Kind::plain_host, 0, false, {}};
}

std::size_t Blocks::used(int device) {
  const std::lock_guard lock(mutex_);
  return used_[static_cast<std::size_t>(device)];
}

}  // namespace

Place place_of(const void* first, std::size_t bytes) { return blocks().find(first, bytes); }

std::string misplaced(const void* first, std::size_t bytes, int device) {
  const Place place = place_of(first, bytes);
  if (place.kind == Place::Kind::bad) return place.why;
  if (!place.mapped) return "host memory that the GPU cannot address";
  if (place.kind == Place::Kind::device && place.device != device) {
    return "memory of device " + std::to_string(place.device);
  }
  return {};
}

}  // namespace sluice::emulated

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const cudaError_t status = may_call("cudaMalloc"); status != cudaSuccess) return status;
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  *memory = blocks().make(Place::Kind::device, current_device(), bytes);
  return answer(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* memory) {
  if (const cudaError_t status = may_call("cudaFree"); status != cudaSuccess) return status;
  // Does not wait for the device. A real device mostly does, but no caller may rely on it.
  if (memory == nullptr || blocks().free(memory, Place::Kind::device)) return cudaSuccess;
  return answer(cudaErrorInvalidValue, "cudaFree: this is not the start of device memory");
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  if (const cudaError_t status = may_call("cudaHostAlloc"); status != cudaSuccess) return status;
  *memory = bytes == 0 ? nullptr : blocks().make(Place::Kind::pinned, 0, bytes);
  return answer(bytes != 0 && *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) { return cudaHostAlloc(memory, bytes, 0); }

cudaError_t cudaFreeHost(void* memory) {
  if (const cudaError_t status = may_call("cudaFreeHost"); status != cudaSuccess) return status;
  if (memory == nullptr || blocks().free(memory, Place::Kind::pinned)) return cudaSuccess;
  return answer(cudaErrorInvalidValue, "cudaFreeHost: this is not the start of pinned memory");
}

cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
  if (const cudaError_t status = may_call("cudaHostRegister"); status != cudaSuccess) return status;
  return answer(blocks().note(memory, bytes));
}

cudaError_t cudaHostUnregister(void* memory) {
  if (const cudaError_t status = may_call("cudaHostUnregister"); status != cudaSuccess) {
    return status;
  }
  return answer(blocks().forget(memory));
}

cudaError_t cudaMemGetInfo(size_t* there, size_t* all) {
  *all = settings().device_bytes;
  *there = *all - blocks().used(current_device());
  return answer(state_of_device());
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const Place place = place_of(memory, 1);
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  if (place.kind == Place::Kind::device) attributes->type = cudaMemoryTypeDevice;
  if (place.kind == Place::Kind::pinned) attributes->type = cudaMemoryTypeHost;
  attributes->device = place.kind == Place::Kind::device ? place.device : -1;
  return cudaSuccess;
}

}  // extern "C"
