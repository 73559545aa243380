// Which instructions may be used of x86 processors by files that are compiled for them alone.
#pragma once

namespace sluice::kernels {

/// Whether the processor multiplies tiles of 8-bit integers and of bfloat16, has the AVX-512 that
/// such code is compiled with, and the kernel lets this process use them; asked for once, the
/// permission holds for all threads. False, too, where the environment has SLUICE_NO_AMX with any
/// value but 0 (read once, at the first call). Any thread; allocates nothing.
bool amx_available();

/// Whether the processor multiplies vectors of 8-bit integers (AVX-512 VNNI).
bool vnni_available();

/// Whether the processor has AVX2, fused multiply-adds and conversions of f16.
bool avx2_available();

}  // namespace sluice::kernels
