// Rows of a table by number: token and position embeddings. Bound by memory; reads and writes each
// row once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gather.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/vectors-inl.h"
#include "kernels/device/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels::HWY_NAMESPACE {

template <class T>
void take(float* out, const T* from, std::int64_t count, bool add) {
  const Floats d;
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const std::int64_t rest = count - i;
    Vector value = rest >= kLanes ? load(d, from + i) : load_first(d, from + i, rest);
    if (add) {
      value = hn::Add(rest >= kLanes ? hn::LoadU(d, out + i) : load_first(d, out + i, rest), value);
    }
    if (rest >= kLanes) {
      hn::StoreU(value, d, out + i);
    } else {
      store_first(d, value, out + i, rest);
    }
  }
}

void take_row(float* out, const void* from, DType dtype, std::int64_t count, bool add) {
  switch (dtype) {
    case DType::f16:
      return take(out, static_cast<const hwy::float16_t*>(from), count, add);
    case DType::bf16:
      return take(out, static_cast<const hwy::bfloat16_t*>(from), count, add);
    default:
      return take(out, static_cast<const float*>(from), count, add);
  }
}

}  // namespace sluice::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <fmt/core.h>

#include "kernels/cpu/operations.h"
#include "kernels/device/error.h"

namespace sluice::kernels {

HWY_EXPORT(take_row);

void gather(const CpuContext& context, TensorView out, const SplitMatrix& table,
            const std::int32_t* ids, bool add) {
  for (std::int64_t row = 0; row < out.rows; ++row) {
    if (ids[row] < 0 || ids[row] >= table.rows()) {
      throw DeviceError(
          fmt::format("{}: id {} of row {} is not in the table of {} rows; this is a "
                      "bug of the caller",
                      add ? "gather_add" : "gather", ids[row], row, table.rows()));
    }
  }
  const auto run = HWY_DYNAMIC_DISPATCH(take_row);
  const auto body = [&](std::int64_t row, float*) {
    const std::int64_t id = ids[row];
    const std::int64_t resident = table.resident.rows;
    const std::byte* from =
        id < resident ? table.resident.row(id) : table.streamed.row(id - resident);
    run(reinterpret_cast<float*>(out.row(row)), from, table.dtype(), out.columns, add);
  };
  context.for_each(out.rows, out.rows * out.columns, body);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
