#include "kernels/ops.h"

#include <cmath>

#include "kernels/device/error.h"

namespace sluice::kernels {

float alibi_slope(std::int32_t head, std::int32_t heads) {
  std::int32_t power = 1;  // the largest that is not above `heads`
  while (power <= heads / 2) power *= 2;
  const double exponent =
      head < power ? -8.0 * (head + 1) / power : -4.0 * (2 * (head - power) + 1) / power;
  return static_cast<float>(std::exp2(exponent));
}

void Ops::sample(SampledRow* /*out*/, TensorView /*logits*/, const SampleRow* /*rows*/,
                 const SampleLists& /*lists*/) {
  throw DeviceError(
      "sample: this engine's logits are sampled on the host; this is a bug of the "
      "caller");
}

}  // namespace sluice::kernels
