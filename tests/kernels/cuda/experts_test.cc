// The operations around experts on the emulated GPU, against the oracle in double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cuda/launches.h"
#include "tests/kernels/cuda/emulated_matrix.h"
#include "tests/support/reference_router.h"

namespace sluice {
namespace {

using emulated_test::EmulatedStream;
using emulated_test::expect_near;
using emulated_test::Numbers;
using emulated_test::OnDevice;
using emulated_test::unit_of;
using kernels::RouterRule;
using reference::Matrix;

constexpr std::int32_t kExperts = 12;
constexpr DType kActivations[] = {DType::f32, DType::f16, DType::bf16};

std::vector<double> row_of(const Matrix& matrix, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < matrix.columns(); ++i) values.push_back(matrix.at(row, i));
  return values;
}

template <class Element>
std::vector<Element> numbers_at(const void* data, std::size_t count) {
  std::vector<Element> numbers(count);
  EXPECT_EQ(cudaMemcpy(numbers.data(), data, count * sizeof(Element), cudaMemcpyDefault),
            cudaSuccess);
  return numbers;
}

/// Memory of the device for what route() gives.
class Routed {
 public:
  Routed(std::int64_t rows, std::int32_t chosen)
      : choices_(static_cast<std::size_t>(rows * chosen)),
        counts_(std::vector<std::int32_t>(kExperts, -1)),
        rows_(std::vector<std::int32_t>(choices_, -1)),
        weights_(std::vector<std::int32_t>(choices_, -1)),
        chosen_(std::vector<std::int32_t>(choices_, -1)),
        scores_(std::vector<std::int32_t>(choices_, -1)) {}
  kernels::RoutedRows view() const {
    const auto at = [](const Numbers& numbers) {
      return const_cast<std::int32_t*>(numbers.data());
    };
    const auto floats = [&](const Numbers& numbers) {
      return reinterpret_cast<float*>(at(numbers));
    };
    return {at(counts_), at(rows_), floats(weights_), at(chosen_), floats(scores_)};
  }
  std::vector<std::int32_t> counts() const {
    return numbers_at<std::int32_t>(counts_.data(), kExperts);
  }
  std::vector<std::int32_t> rows() const {
    return numbers_at<std::int32_t>(rows_.data(), choices_);
  }
  std::vector<float> weights() const { return numbers_at<float>(weights_.data(), choices_); }

 private:
  std::size_t choices_;
  Numbers counts_;
  Numbers rows_;
  Numbers weights_;
  Numbers chosen_;
  Numbers scores_;
};

TEST(CudaExperts, RowsAreThoseOfTheOracleByExpertThenByRow) {
  for (const bool descending : {false, true}) {
    const EmulatedStream stream(descending);
    for (const RouterRule& rule : reference::router_rules()) {
      for (const std::int64_t rows : {1, 7, 130}) {
        const OnDevice logits = OnDevice::random(rows, kExperts, DType::f32, 3);
        const OnDevice correction = OnDevice::random(1, kExperts, DType::bf16, 4);
        const bool corrected = rule.score == kernels::RouterScore::sigmoid;
        const Routed routed(rows, rule.chosen);
        cuda::launch_route(stream.get(), routed.view(), logits.view(),
                           corrected ? correction.view() : TensorView{}, rule);
        stream.finish();
        std::vector<reference::RowChoice> choices;
        for (std::int64_t row = 0; row < rows; ++row) {
          choices.push_back(reference::route(
              row_of(logits.values(), row),
              corrected ? row_of(correction.values(), 0) : std::vector<double>{}, rule));
        }
        const reference::RowsOfExperts expected = reference::rows_of(choices, kExperts);
        ASSERT_EQ(routed.counts(), expected.counts);
        ASSERT_EQ(routed.rows(), expected.rows);
        const std::vector<float> weights = routed.weights();
        for (std::size_t i = 0; i < weights.size(); ++i) {
          ASSERT_NEAR(weights[i], expected.weights[i], 1e-5);
        }
      }
    }
  }
}

TEST(CudaExperts, TheMixerWeighsEachExpertAmongThoseNearIt) {
  const EmulatedStream stream;
  Matrix values(1, kExperts);
  for (std::int64_t e = 0; e < kExperts; ++e) values.set(0, e, -3.0 - static_cast<double>(e));
  values.set(0, 1, 1.0);
  values.set(0, 3, 0.985);
  const OnDevice logits(values, DType::f32);
  const Routed routed(1, 2);
  cuda::launch_route(stream.get(), routed.view(), logits.view(), {},
                     {.chosen = 2, .score = kernels::RouterScore::sparse_mixer, .nearness = 0.02F});
  stream.finish();
  const std::vector<float> weights = routed.weights();
  EXPECT_EQ(routed.counts()[1], 1);
  EXPECT_EQ(routed.counts()[3], 1);
  EXPECT_NEAR(weights[0], 1 / (1 + std::exp(-0.015)), 1e-5);
  EXPECT_NEAR(weights[1], 1, 1e-5);
}

TEST(CudaExperts, EachRowGoesToItsPlaceTimesItsFactor) {
  const EmulatedStream stream;
  const Numbers rows({3, 0, 4, 1});
  for (const DType of_out : kActivations) {
    for (const DType of_in : kActivations) {
      for (const std::int64_t width : {1, 64, 72, 100}) {
        for (const std::size_t offset : {std::size_t{0}, std::size_t{4}}) {
          const OnDevice in = OnDevice::random(4, width, of_in, 1, offset);
          const OnDevice factors = OnDevice::random(4, 1, DType::f32, 2);
          const OnDevice out = OnDevice::random(5, width, of_out, 3);
          Matrix expected = out.values();
          const std::int64_t places[] = {3, 0, 4, 1};
          for (std::int64_t i = 0; i < 4; ++i) {
            const double factor = 1 / (1 + std::exp(-factors.values().at(i, 0)));
            for (std::int64_t c = 0; c < width; ++c) {
              const double sum = out.values().at(places[i], c) + factor * in.values().at(i, c);
              expected.set(places[i], c, sum);
            }
          }
          cuda::launch_add_rows(
              stream.get(), out.view(), in.view(),
              {rows.data(), static_cast<const float*>(factors.view().data), true});
          stream.finish();
          expect_near(out.now(), expected, 2 * unit_of(of_out));
        }
      }
    }
  }
}

TEST(CudaExperts, ElementsBecomeZeroOrStayWithinTheLimit) {
  const EmulatedStream stream;
  for (const DType dtype : kActivations) {
    const OnDevice rows = OnDevice::random(5, 77, dtype, 1);
    cuda::launch_clamp(stream.get(), rows.view(), 0.25F);
    stream.finish();
    Matrix expected = rows.values();
    for (std::int64_t r = 0; r < 5; ++r) {
      for (std::int64_t c = 0; c < 77; ++c) {
        expected.set(r, c, std::clamp(expected.at(r, c), -0.25, 0.25));
      }
    }
    expect_near(rows.now(), expected, 0);
    cuda::launch_clear(stream.get(), rows.view().slice(0, 4));
    stream.finish();
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t c = 0; c < 77; ++c) expected.set(r, c, 0);
    }
    expect_near(rows.now(), expected, 0);
  }
}

}  // namespace
}  // namespace sluice
