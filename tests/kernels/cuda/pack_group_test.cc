// The arithmetic of pack_group.cuh, which has no divisions: to the last bit that of divisions.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/pack_group.cuh"

namespace sluice::cuda {
namespace {

TEST(CudaPackGroup, RefinesEveryReciprocalOfAScale) {
  for (unsigned bits = 1; bits < 0x7C00; ++bits) {
    const float scale = __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
    const float exact = 1.0F / scale;
    for (unsigned off = 0; off < 5; ++off) {
      const float near = __uint_as_float(__float_as_uint(exact) + off - 2);
      ASSERT_EQ(refined(1.0F, scale, near, near), exact) << scale << ", off by " << off << " - 2";
    }
  }
}

/// As what a group's range is divided by, and where no step comes near to f32's subnormal numbers.
void expect_exact_quotients(float levels) {
  const auto expect_one = [&](float range) {
    ASSERT_EQ(refined(range, levels, range * (1 / levels), 1 / levels), range / levels) << range;
  };
  for (unsigned mantissa = 0; mantissa < 1U << 23U; ++mantissa) {
    expect_one(__uint_as_float(0x3F800000U | mantissa));
  }
  for (unsigned exponent = 127 - 60; exponent < 127 + 18; ++exponent) {
    for (unsigned mantissa = 0; mantissa < 1U << 23U; mantissa += 4093) {
      expect_one(__uint_as_float(exponent << 23U | mantissa));
    }
  }
}
TEST(CudaPackGroup, RefinesEveryQuotient) {
  expect_exact_quotients(255.0F);
  expect_exact_quotients(15.0F);
}

/// Codes by the words of kernels/cpu/narrow-inl.h.
template <DType kType>
void expect_codes(float minimum, float scale, const float (&value)[4]) {
  constexpr float kLevels = kType == DType::q8 ? 255.0F : 15.0F;
  const GroupScale packed{__float2half_rn(scale), __float2half_rn(minimum)};
  const float step = __half2float(packed.scale);
  const unsigned codes =
      codes_of<kType>(value, __half2float(packed.minimum), part_of<kType>(packed));
  const float inverse = step > 0 ? 1.0F / step : 0.0F;
  for (unsigned i = 0; i < 4; ++i) {
    const float code = (value[i] - __half2float(packed.minimum)) * inverse;
    const float kept = std::fmin(std::fmax(code, 0.0F), kLevels);
    ASSERT_EQ(codes >> (8 * i) & 255U, static_cast<unsigned>(std::nearbyint(kept)))
        << value[i] << ", minimum " << minimum << ", scale " << scale;
  }
}

template <DType kType>
void expect_all_codes() {
  constexpr int kLevels = kType == DType::q8 ? 255 : 15;
  // Halves between codes, and what lies beside them; and beyond both ends.
  for (const float scale : {0x1p-24F, 0x3p-24F, 0.001F, 0.37F, 1.0F, 3.0F, 400.0F}) {
    const float step = __half2float(__float2half_rn(scale));
    for (const float minimum : {0.0F, -1.0F, 5.5F, -1000.0F}) {
      for (int code = -2; code < kLevels + 3; ++code) {
        const float half = minimum + (static_cast<float>(code) + 0.5F) * step;
        expect_codes<kType>(minimum, scale,
                            {half, std::nextafter(half, -INFINITY), std::nextafter(half, INFINITY),
                             minimum + static_cast<float>(code) * step});
      }
    }
  }
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-20, 6);
  std::uniform_real_distribution<float> share(-0.1F, 1.1F);
  for (int i = 0; i < 100000; ++i) {
    const float scale = std::exp2(exponent(random));
    const float minimum = std::exp2(exponent(random));
    float value[4];
    for (float& of : value) {
      of = __half2float(__float2half_rn(minimum)) +
           share(random) * static_cast<float>(kLevels) * scale;
    }
    expect_codes<kType>(minimum, scale, value);
  }
}
TEST(CudaPackGroup, RoundsToTheNearestEvenCodeWithinTheLevels) {
  expect_all_codes<DType::q8>();
  expect_all_codes<DType::q4>();
}

TEST(CudaPackGroup, GivesCodeZeroWhereThereIsNoScale) {
  const float value[4] = {1.0F, -1.0F, NAN, INFINITY};
  for (const float scale : {0.0F, std::nanf("")}) {
    const GroupScale packed{__float2half_rn(scale), __float2half_rn(scale)};
    EXPECT_EQ(codes_of<DType::q4>(value, scale, part_of<DType::q4>(packed)), 0U);
    EXPECT_EQ(codes_of<DType::q8>(value, scale, part_of<DType::q8>(packed)), 0U);
  }
}

}  // namespace
}  // namespace sluice::cuda
