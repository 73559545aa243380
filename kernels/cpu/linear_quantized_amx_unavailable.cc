// Stands in for linear_quantized_amx.cc, linear_quantized_avx512.cc and linear_quantized_avx2.cc on
// processors other than x86-64.
#include "kernels/cpu/linear_quantized.h"
#include "kernels/device/error.h"

namespace sluice::kernels {
QuantizedProduct tile_product() {
  throw DeviceError("tile products are of x86-64 processors; this is a bug of the caller");
}
QuantizedProduct byte_product() {
  throw DeviceError("byte products are of x86-64 processors; this is a bug of the caller");
}
QuantizedProduct pair_product() {
  throw DeviceError("pair products are of x86-64 processors; this is a bug of the caller");
}
}  // namespace sluice::kernels
