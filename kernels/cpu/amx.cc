#include "kernels/cpu/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace sluice::kernels {

namespace {

bool switched_off() {
  const char* const value = std::getenv("SLUICE_NO_AMX");
  return value != nullptr && std::string_view(value) != "0";
}

bool processor_has_byte_vectors() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}

bool processor_has_tiles() {
  // AMX-BF16, AMX-TILE, AMX-INT8 of leaf 7 (Intel SDM, CPUID). Processors with tiles have all of
  // AVX-512 that is asked for; a hypervisor may hide it nevertheless.
  constexpr std::uint32_t kTiles = (1U << 22) | (1U << 24) | (1U << 25);
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTiles) != kTiles) {
    return false;
  }
  return processor_has_byte_vectors() && __builtin_cpu_supports("avx512bf16") != 0;
}

/// The tile registers are 8 KiB a thread, which the kernel saves only for processes that ask
/// (Documentation/arch/x86/xstate.rst). Older kernels do not know the call: then there are none.
bool kernel_permits() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool amx_available() {
  static const bool available = !switched_off() && processor_has_tiles() && kernel_permits();
  return available;
}

bool vnni_available() { return processor_has_byte_vectors(); }

bool avx2_available() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}

}  // namespace sluice::kernels
