#include "stage/features.h"

#include <algorithm>
#include <span>

#include "kernels/half.h"

namespace sluice::stage {

namespace {

double value_at(TensorView row, std::int64_t column) {
  switch (row.dtype) {
    case DType::f16:
      return kernels::from_f16(static_cast<const std::uint16_t*>(row.data)[column]);
    case DType::bf16:
      return kernels::from_bf16(static_cast<const std::uint16_t*>(row.data)[column]);
    default:
      return static_cast<const float*>(row.data)[column];
  }
}

}  // namespace

void FeatureSums::add(const PassRow& row, std::int32_t index, TensorView values,
                      PassResults& results) {
  const std::span<double> sums(memory_ + std::int64_t{row.slot} * width_,
                               static_cast<std::size_t>(width_));
  if (index == 0 || row.embed == Embed::last) std::ranges::fill(sums, 0.0);
  for (std::int32_t c = 0; c < width_; ++c)
    sums[static_cast<std::size_t>(c)] += value_at(values, c);
  if (!row.embeds || index + 1 < row.position + row.new_tokens) return;
  const double tokens = row.embed == Embed::mean ? index + 1 : 1;
  results.embedded.push_back(row.slot);
  for (const double sum : sums) results.features.push_back(static_cast<float>(sum / tokens));
}

}  // namespace sluice::stage
