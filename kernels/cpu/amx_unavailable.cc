// In the place of amx.cc on processors that are no x86-64.
#include "kernels/cpu/amx.h"

namespace sluice::kernels {
bool amx_available() { return false; }
bool vnni_available() { return false; }
bool avx2_available() { return false; }
}  // namespace sluice::kernels
