#include "kernels/ops.h"

#include "kernels/device/error.h"

namespace sluice::kernels {

void Ops::sample(SampledRow* /*out*/, TensorView /*logits*/, const SampleRow* /*rows*/,
                 const std::int32_t* /*history*/) {
  throw DeviceError(
      "sample: this engine's logits are sampled on the host; this is a bug of the "
      "caller");
}

}  // namespace sluice::kernels
