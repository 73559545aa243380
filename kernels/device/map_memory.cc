// Memory of the CPU backend: anonymous mappings, outside the heap, so that large blocks are
// aligned, zeroed lazily and given back to the system when they go.
#include <fmt/core.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "kernels/device/cpu_backend.h"
#include "kernels/device/error.h"

namespace sluice {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// What the kernel thinks it could still give, swap included; the maximum where it does not say.
std::uint64_t available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::uint64_t kibibytes = 0;
  bool known = false;
  std::string key;
  std::uint64_t value = 0;
  std::string rest;
  while (meminfo >> key >> value && std::getline(meminfo, rest)) {
    if (key != "MemAvailable:" && key != "SwapFree:") continue;
    kibibytes += value;
    known = known || key == "MemAvailable:";
  }
  return known ? kibibytes * 1024 : std::numeric_limits<std::uint64_t>::max();
}

[[noreturn]] void refuse(std::size_t bytes, const char* purpose, const std::string& reason) {
  throw CapacityError(fmt::format("{} bytes of {} wanted, {}; lower the budget of that tier", bytes,
                                  purpose, reason));
}

}  // namespace

void unmap_memory(void* data, std::size_t bytes) {
  if (data != nullptr) munmap(data, (bytes + kPageBytes - 1) / kPageBytes * kPageBytes);
}

Memory map_memory(std::size_t bytes, const char* purpose) {
  if (bytes == 0) return {};
  const std::uint64_t available = available_bytes();
  if (bytes > available) {
    refuse(bytes, purpose, fmt::format("{} bytes available on this host", available));
  }
  const bool large = bytes >= kHugePageBytes;
  const std::size_t rounded = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::size_t slack = large ? kHugePageBytes : 0;
  void* mapped =
      mmap(nullptr, rounded + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    const char* name = strerrorname_np(errno);
    refuse(bytes, purpose,
           fmt::format("mmap failed with {}; {} bytes available on this host",
                       name != nullptr ? name : "?", available));
  }
  auto* begin = static_cast<std::byte*>(mapped);
  if (large) {
    const std::size_t skipped =
        (kHugePageBytes - reinterpret_cast<std::uintptr_t>(begin) % kHugePageBytes) %
        kHugePageBytes;
    if (skipped > 0) munmap(begin, skipped);
    if (skipped < slack) munmap(begin + skipped + rounded, slack - skipped);
    begin += skipped;
    // Refused where the kernel has no huge pages: slower, not wrong.
    static_cast<void>(madvise(begin, rounded, MADV_HUGEPAGE));
  }
  return {begin, bytes, unmap_memory};
}

}  // namespace sluice
