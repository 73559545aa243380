#include "kernels/ops.h"

#include <cmath>
#include <string>

#include "kernels/device/error.h"

namespace sluice::kernels {

namespace {

[[noreturn]] void refuse(const char* operation) {
  throw DeviceError(std::string(operation) + ": this engine cannot do it");
}

}  // namespace

float alibi_slope(std::int32_t head, std::int32_t heads) {
  std::int32_t power = 1;  // the largest that is not above `heads`
  while (power <= heads / 2) power *= 2;
  const double exponent =
      head < power ? -8.0 * (head + 1) / power : -4.0 * (2 * (head - power) + 1) / power;
  return static_cast<float>(std::exp2(exponent));
}

void Ops::rms_norm(TensorView, TensorView, TensorView, float, float) { refuse("rms_norm"); }
void Ops::rotate(TensorView, const Rotation&, const std::int32_t*) { refuse("rotate"); }
void Ops::scale(TensorView, float) { refuse("scale"); }
void Ops::soft_cap(TensorView, float) { refuse("soft_cap"); }
void Ops::add(TensorView, TensorView) { refuse("add"); }
void Ops::widen_rows(TensorView, TensorView) { refuse("widen_rows"); }
void Ops::linear_times(TensorView, TensorView, const SplitMatrix&, TensorView, TensorView) {
  refuse("linear_times");
}

void Ops::sample(SampledRow* /*out*/, TensorView /*logits*/, const SampleRow* /*rows*/,
                 const std::int32_t* /*history*/) {
  throw DeviceError(
      "sample: this engine's logits are sampled on the host; this is a bug of the "
      "caller");
}

}  // namespace sluice::kernels
