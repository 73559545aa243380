// Rows of a table by number: token and position embeddings. Bound by memory; reads and writes each
// row once. Quantised rows yield what dequantize_rows() does, bit for bit: a scale of 11 bits times
// a code of 8 is exact, so that it does not matter whether the sum is fused.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gather.cc"
#include <hwy/foreach_target.h>
// Highway wants its own order.
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/vectors-inl.h"
#include "kernels/device/dtype.h"
#include "kernels/half.h"

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

/// Elements of one group.
HWY_INLINE void expand_group(const std::uint8_t* codes, bool nibbles, float scale, float minimum,
                             float* out) {
  const Floats d;
  const hn::RebindToSigned<Floats> ints;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const auto by = hn::Set(d, scale);
  const auto from = hn::Set(d, minimum);
  const auto element = [&](auto code) { return hn::MulAdd(hn::ConvertTo(d, code), by, from); };
  if (!nibbles) {
    for (std::int64_t i = 0; i < kQuantGroup; i += kLanes) {
      hn::StoreU(element(hn::PromoteTo(ints, hn::LoadU(bytes, codes + i))), d, out + i);
    }
    return;
  }
  constexpr std::int64_t kHalf = kQuantGroup / 2;
  for (std::int64_t i = 0; i < kHalf; i += kLanes) {
    const auto pair = hn::PromoteTo(ints, hn::LoadU(bytes, codes + i));
    hn::StoreU(element(hn::And(pair, hn::Set(ints, 15))), d, out + i);
    hn::StoreU(element(hn::ShiftRight<4>(pair)), d, out + i + kHalf);
  }
}

void take_quantized(float* out, const void* from, bool nibbles, std::int64_t count, bool add) {
  const std::int64_t groups = (count + kQuantGroup - 1) / kQuantGroup;
  const std::int64_t code_bytes = nibbles ? kQuantGroup / 2 : kQuantGroup;
  const auto* const codes = static_cast<const std::uint8_t*>(from);
  const std::uint8_t* const scales = codes + groups * code_bytes;
  for (std::int64_t group = 0; group < groups; ++group) {
    std::uint16_t halves[2];  // scale, minimum
    std::memcpy(halves, scales + group * 4, sizeof(halves));
    float elements[kQuantGroup];
    expand_group(codes + group * code_bytes, nibbles, from_f16(halves[0]), from_f16(halves[1]),
                 elements);
    const std::int64_t first = group * kQuantGroup;
    take(out + first, elements, std::min(kQuantGroup, count - first), add);
  }
}

void take_row(float* out, const void* from, DType dtype, std::int64_t count, bool add) {
  switch (dtype) {
    case DType::f16:
      return take(out, static_cast<const hwy::float16_t*>(from), count, add);
    case DType::bf16:
      return take(out, static_cast<const hwy::bfloat16_t*>(from), count, add);
    case DType::q8:
    case DType::q4:
      return take_quantized(out, from, dtype == DType::q4, count, add);
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
