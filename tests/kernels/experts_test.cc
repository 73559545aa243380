// The operations around experts: route, add_rows, clear, clamp.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/reference_ops.h"
#include "tests/support/reference_router.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

constexpr std::int32_t kExperts = 12;

Engine engine_of(int threads) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  return make_engine(options);
}

void finish(Engine& engine) { engine.backend->synchronize(engine.backend->record(Lane::compute)); }

/// Room for what route() gives.
struct Routed {
  Routed(std::int64_t rows, std::int64_t experts, std::int32_t chosen)
      : counts(static_cast<std::size_t>(experts), -1),
        rows_of(static_cast<std::size_t>(rows * chosen), -1),
        weights(rows_of.size(), NAN),
        choice(rows_of.size(), -1),
        scores(rows_of.size(), NAN) {}
  RoutedRows view() {
    return {counts.data(), rows_of.data(), weights.data(), choice.data(), scores.data()};
  }
  std::vector<std::int32_t> counts;
  std::vector<std::int32_t> rows_of;
  std::vector<float> weights;
  std::vector<std::int32_t> choice;
  std::vector<float> scores;
};

Routed route(Engine& engine, const Matrix& logits, TensorView correction, const RouterRule& rule) {
  Matrix scratch = logits;
  Routed routed(logits.rows(), logits.columns(), rule.chosen);
  engine.device_ops->route(routed.view(), scratch.view(), correction, rule);
  finish(engine);
  return routed;
}

std::vector<double> row_of(const Matrix& matrix, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < matrix.columns(); ++i) values.push_back(matrix.at(row, i));
  return values;
}

TEST(Route, RowsAreThoseOfTheOracleByExpertThenByRow) {
  for (const int threads : {1, 3}) {
    Engine engine = engine_of(threads);
    for (const RouterRule& rule : reference::router_rules()) {
      for (const std::int64_t rows : {1, 7, 400}) {
        for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
          const Matrix logits = Matrix::random(rows, kExperts, DType::f32, 3);
          Matrix correction = Matrix::random(1, kExperts, dtype, 4);
          const bool corrected = rule.score == RouterScore::sigmoid;
          const Routed got =
              route(engine, logits, corrected ? correction.view() : TensorView{}, rule);
          std::vector<reference::RowChoice> choices;
          for (std::int64_t row = 0; row < rows; ++row) {
            choices.push_back(
                reference::route(row_of(logits, row),
                                 corrected ? row_of(correction, 0) : std::vector<double>{}, rule));
          }
          const reference::RowsOfExperts expected = reference::rows_of(choices, kExperts);
          ASSERT_EQ(got.counts, expected.counts);
          ASSERT_EQ(got.rows_of, expected.rows);
          for (std::size_t i = 0; i < expected.weights.size(); ++i) {
            ASSERT_NEAR(got.weights[i], expected.weights[i], 1e-6);
          }
        }
      }
    }
  }
}

TEST(Route, OfEqualLogitsTheLowerExpertIsChosen) {
  Engine engine = engine_of(1);
  Matrix logits(2, kExperts);
  for (std::int64_t e = 0; e < kExperts; ++e) logits.set(1, e, e == 5 || e == 9 ? 1.0 : 0.0);
  const Routed got = route(engine, logits, {}, {.chosen = 3});
  EXPECT_EQ(std::vector<std::int32_t>(got.choice.begin(), got.choice.begin() + 3),
            (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_EQ(std::vector<std::int32_t>(got.choice.begin() + 3, got.choice.end()),
            (std::vector<std::int32_t>{5, 9, 0}));
}

/// Two experts whose logits are 1 and 0.985, and others far away: with a threshold of 0.02 the
/// first is weighed among both, the second alone.
TEST(Route, TheMixerWeighsEachExpertAmongThoseNearIt) {
  Engine engine = engine_of(1);
  Matrix logits(1, 4);
  const double values[] = {0.2, 1.0, -3.0, 0.985};
  for (std::int64_t e = 0; e < 4; ++e) logits.set(0, e, values[e]);
  RouterRule rule{.chosen = 2, .score = RouterScore::sparse_mixer, .nearness = 0.02F};
  Routed got = route(engine, logits, {}, rule);
  EXPECT_EQ(got.choice, (std::vector<std::int32_t>{1, 3}));
  EXPECT_NEAR(got.scores[0], 1 / (1 + std::exp(-0.015)), 1e-6);
  EXPECT_NEAR(got.scores[1], 1, 1e-6);
  rule.nearness = 0.01F;
  got = route(engine, logits, {}, rule);
  EXPECT_NEAR(got.scores[0], 1, 1e-6);
}

TEST(Route, WhateverTheLogitsAreARowGetsDifferentExperts) {
  Engine engine = engine_of(1);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const RouterRule& rule : reference::router_rules()) {
    for (const double value : {static_cast<double>(NAN), kInfinity, -kInfinity}) {
      Matrix logits = Matrix::random(3, kExperts, DType::f32, 1);
      for (std::int64_t e = 0; e < kExperts; ++e) logits.set(1, e, value);
      logits.set(2, 4, value);
      const Routed got = route(engine, logits, {}, rule);
      for (std::size_t row = 0; row < 3; ++row) {
        const auto chosen = static_cast<std::size_t>(rule.chosen);
        const auto begin = got.choice.begin() + static_cast<std::ptrdiff_t>(row * chosen);
        const std::set<std::int32_t> different(begin, begin + rule.chosen);
        ASSERT_EQ(different.size(), chosen);
        ASSERT_TRUE(*different.begin() >= 0 && *different.rbegin() < kExperts);
      }
    }
  }
}

TEST(Route, ARowsChoiceHasTheSameBitsInAnyCompany) {
  Engine engine = engine_of(3);
  for (const RouterRule& rule : reference::router_rules()) {
    const Matrix logits = Matrix::random(300, kExperts, DType::f32, 8);
    const Routed all = route(engine, logits, {}, rule);
    for (const std::int64_t row : {0, 17, 299}) {
      Matrix one(1, kExperts);
      for (std::int64_t e = 0; e < kExperts; ++e) one.set(0, e, logits.at(row, e));
      const Routed alone = route(engine, one, {}, rule);
      for (std::int64_t k = 0; k < rule.chosen; ++k) {
        const auto at = static_cast<std::size_t>(row * rule.chosen + k);
        ASSERT_EQ(alone.choice[static_cast<std::size_t>(k)], all.choice[at]);
        ASSERT_EQ(alone.scores[static_cast<std::size_t>(k)], all.scores[at]);
      }
    }
  }
}

TEST(Route, WhatCannotBeChosenIsRefused) {
  Engine engine = engine_of(1);
  Matrix logits = Matrix::random(2, kExperts, DType::f32, 1);
  Routed room(2, kExperts, kMostChosenExperts);
  for (const RouterRule& rule :
       {RouterRule{.chosen = 0}, RouterRule{.chosen = 13}, RouterRule{.chosen = 2, .groups = 5},
        RouterRule{.chosen = 5, .groups = 3, .kept_groups = 1},
        RouterRule{.chosen = 3, .score = RouterScore::sparse_mixer}}) {
    EXPECT_THROW(engine.device_ops->route(room.view(), logits.view(), {}, rule), DeviceError);
  }
  EXPECT_THROW(engine.device_ops->route({}, logits.view(), {}, {.chosen = 2}), DeviceError);
}

TEST(AddRows, EachRowGoesToItsPlaceTimesItsFactor) {
  for (const int threads : {1, 3}) {
    Engine engine = engine_of(threads);
    for (const std::int64_t width : {1, 17, 3000}) {
      Matrix in = Matrix::random(40, width, DType::f32, 1);
      const std::vector<float> factors = {0.5F, -2.0F, 0.0F};
      std::vector<std::int32_t> rows;
      std::vector<float> all;
      for (std::int32_t i = 0; i < 40; ++i) {
        rows.push_back(i * 7 % 41);
        all.push_back(factors[static_cast<std::size_t>(i) % 3]);
      }
      for (const bool sigmoids : {false, true}) {
        Matrix out = Matrix::random(41, width, DType::f32, 2);
        Matrix expected = out;
        for (std::int64_t i = 0; i < 40; ++i) {
          const double given = all[static_cast<std::size_t>(i)];
          const double factor = sigmoids ? 1 / (1 + std::exp(-given)) : given;
          const std::int64_t to = rows[static_cast<std::size_t>(i)];
          for (std::int64_t c = 0; c < width; ++c) {
            expected.set(to, c, out.at(to, c) + factor * in.at(i, c));
          }
        }
        engine.device_ops->add_rows(out.view(), in.view(), {rows.data(), all.data(), sigmoids});
        finish(engine);
        for (std::int64_t r = 0; r < 41; ++r) {
          for (std::int64_t c = 0; c < width; ++c) {
            ASSERT_NEAR(out.at(r, c), expected.at(r, c), 1e-6);
          }
        }
      }
    }
  }
}

TEST(AddRows, ARowThatIsNotThereIsRefused) {
  Engine engine = engine_of(1);
  Matrix in = Matrix::random(2, 4, DType::f32, 1);
  Matrix out(2, 4);
  for (const std::int32_t wrong : {-1, 2}) {
    const std::vector<std::int32_t> rows = {0, wrong};
    engine.device_ops->add_rows(out.view(), in.view(), {rows.data(), nullptr, false});
    EXPECT_THROW(finish(engine), DeviceError);
    engine = engine_of(1);
  }
  Matrix wider(2, 5);
  EXPECT_THROW(engine.device_ops->add_rows(wider.view(), in.view(), {}), DeviceError);
}

TEST(ClearAndClamp, ElementsBecomeZeroOrStayWithinTheLimit) {
  Engine engine = engine_of(2);
  Matrix rows = Matrix::random(50, 701, DType::f32, 1);
  Matrix clamped = rows;
  engine.device_ops->clamp(clamped.view(), 0.25F);
  finish(engine);
  for (std::int64_t r = 0; r < 50; ++r) {
    for (std::int64_t c = 0; c < 701; ++c) {
      ASSERT_EQ(clamped.at(r, c), std::clamp(rows.at(r, c), -0.25, 0.25));
    }
  }
  rows.set(3, 3, static_cast<double>(NAN));
  engine.device_ops->clear(rows.view().slice(0, 49));
  finish(engine);
  for (std::int64_t c = 0; c < 701; ++c) {
    ASSERT_EQ(rows.at(3, c), 0);
    ASSERT_NE(rows.at(49, c), 0);
  }
  EXPECT_THROW(engine.device_ops->clamp(rows.view(), 0), DeviceError);
}

}  // namespace
}  // namespace sluice::kernels
