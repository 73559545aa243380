#include "tests/support/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/support/kept_keys.h"

namespace sluice::reference {

namespace {

/// The nearest float with `mantissa` explicit bits and exponents of [min_exponent, max_exponent].
double round_to(double value, int mantissa, int min_exponent) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  const double step = std::ldexp(1.0, exponent - mantissa);
  return std::nearbyint(value / step) * step;  // the default rounding: ties to even
}

/// Press et al.: a geometric row for the largest power of two of heads, and every other slope of
/// the next such row for the heads beyond.
double alibi_slope(std::int32_t head, std::int32_t heads) {
  const auto power = static_cast<std::int32_t>(std::pow(2.0, std::floor(std::log2(heads))));
  if (head < power) return std::pow(std::pow(2.0, -8.0 / power), head + 1);
  return std::pow(std::pow(2.0, -4.0 / power), 2 * (head - power) + 1);
}

std::uint64_t next_random(std::uint64_t& state) {  // splitmix64
  state += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace

double from_f16(std::uint16_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 0x1F;
  const int mantissa = bits & 0x3FF;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

std::uint16_t to_f16(double value) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000U : 0U;
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00U);
  const double rounded = std::fabs(round_to(value, 10, -14));
  if (rounded > 65504.0) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (rounded < std::ldexp(1.0, -14)) {
    return static_cast<std::uint16_t>(sign + static_cast<std::uint32_t>(std::ldexp(rounded, 24)));
  }
  const int exponent = std::ilogb(rounded);
  const auto mantissa = static_cast<std::uint32_t>(std::ldexp(rounded, 10 - exponent)) - 1024U;
  return static_cast<std::uint16_t>(sign | (static_cast<std::uint32_t>(exponent + 15) << 10) |
                                    mantissa);
}

double from_bf16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0.0F;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

std::uint16_t to_bf16(double value) {
  const auto rounded = static_cast<float>(round_to(value, 7, -126));
  std::uint32_t bits = 0;
  std::memcpy(&bits, &rounded, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

Matrix::Matrix(std::int64_t rows, std::int64_t columns, DType dtype)
    : rows_(rows),
      columns_(columns),
      dtype_(dtype),
      bytes_(static_cast<std::size_t>(rows * columns) * size_of(dtype)) {}

Matrix Matrix::random(std::int64_t rows, std::int64_t columns, DType dtype, std::uint64_t seed) {
  Matrix matrix(rows, columns, dtype);
  std::uint64_t state = seed;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const auto value = static_cast<std::int64_t>(next_random(state) >> 11);
      matrix.set(row, column, std::ldexp(static_cast<double>(value), -52) - 1.0);
    }
  }
  return matrix;
}

double Matrix::at(std::int64_t row, std::int64_t column) const {
  const auto index = static_cast<std::size_t>(row * columns_ + column);
  const std::byte* from = bytes_.data() + index * size_of(dtype_);
  std::uint16_t half = 0;
  float single = 0.0F;
  if (size_of(dtype_) == 2) {
    std::memcpy(&half, from, sizeof(half));
  } else {
    std::memcpy(&single, from, sizeof(single));
  }
  if (dtype_ == DType::f16) return from_f16(half);
  if (dtype_ == DType::bf16) return from_bf16(half);
  return single;
}

void Matrix::set(std::int64_t row, std::int64_t column, double value) {
  const auto index = static_cast<std::size_t>(row * columns_ + column);
  std::byte* to = bytes_.data() + index * size_of(dtype_);
  if (dtype_ == DType::f32) {
    const auto single = static_cast<float>(value);
    std::memcpy(to, &single, sizeof(single));
    return;
  }
  const std::uint16_t half = dtype_ == DType::f16 ? to_f16(value) : to_bf16(value);
  std::memcpy(to, &half, sizeof(half));
}

TensorView Matrix::view() { return {bytes_.data(), dtype_, rows_, columns_}; }

SplitMatrix Matrix::split(std::int64_t resident) {
  return {view().slice(0, resident), view().slice(resident, rows_ - resident)};
}

Matrix gather(const Matrix& table, const std::vector<std::int32_t>& ids) {
  Matrix out(static_cast<std::int64_t>(ids.size()), table.columns());
  for (std::int64_t row = 0; row < out.rows(); ++row) {
    for (std::int64_t column = 0; column < out.columns(); ++column) {
      out.set(row, column, table.at(ids[static_cast<std::size_t>(row)], column));
    }
  }
  return out;
}

Matrix layer_norm(const Matrix& in, const Matrix& weight, const Matrix& bias, double epsilon) {
  Matrix out(in.rows(), in.columns());
  const auto width = static_cast<double>(in.columns());
  for (std::int64_t row = 0; row < in.rows(); ++row) {
    double mean = 0.0;
    for (std::int64_t i = 0; i < in.columns(); ++i) mean += in.at(row, i) / width;
    double variance = 0.0;
    for (std::int64_t i = 0; i < in.columns(); ++i) {
      variance += (in.at(row, i) - mean) * (in.at(row, i) - mean) / width;
    }
    for (std::int64_t i = 0; i < in.columns(); ++i) {
      double value = (in.at(row, i) - mean) / std::sqrt(variance + epsilon);
      if (weight.rows() > 0) value *= weight.at(0, i);
      if (bias.rows() > 0) value += bias.at(0, i);
      out.set(row, i, value);
    }
  }
  return out;
}

Matrix rms_norm(const Matrix& in, const Matrix& weight, double epsilon, double offset) {
  Matrix out(in.rows(), in.columns(), in.dtype());
  for (std::int64_t row = 0; row < in.rows(); ++row) {
    double squares = 0.0;
    for (std::int64_t i = 0; i < in.columns(); ++i) squares += in.at(row, i) * in.at(row, i);
    const double root = std::sqrt(squares / static_cast<double>(in.columns()) + epsilon);
    for (std::int64_t i = 0; i < in.columns(); ++i) {
      const double factor = weight.rows() > 0 ? offset + weight.at(0, i) : 1.0;
      out.set(row, i, in.at(row, i) / root * factor);
    }
  }
  return out;
}

Matrix rotate(const Matrix& rows, const kernels::Rotation& rotation,
              const std::vector<std::int32_t>& positions) {
  Matrix out = rows;
  const std::int64_t pairs = rotation.width / 2;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    const std::int32_t given = positions[static_cast<std::size_t>(row)];
    const std::int32_t position = given < 0 ? -1 - given : given;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float angle =
          static_cast<float>(position) * rotation.frequencies[given < 0 ? pairs + i : i];
      const double cosine = std::cos(static_cast<double>(angle)) * rotation.factor;
      const double sine = std::sin(static_cast<double>(angle)) * rotation.factor;
      for (std::int64_t head = 0; head < rows.columns(); head += rotation.head_dim) {
        const std::int64_t first = head + (rotation.neighbours ? 2 * i : i);
        const std::int64_t second = rotation.neighbours ? first + 1 : first + pairs;
        const double a = rows.at(row, first);
        const double b = rows.at(row, second);
        out.set(row, first, a * cosine - b * sine);
        out.set(row, second, a * sine + b * cosine);
      }
    }
  }
  return out;
}

double activate(double value, kernels::Activation activation) {
  constexpr double kRoot = 0.79788456080286535588;  // sqrt(2 / pi)
  switch (activation) {
    case kernels::Activation::relu:
      return std::max(value, 0.0);
    case kernels::Activation::gelu:
      return value * 0.5 * std::erfc(-value / std::sqrt(2.0));
    case kernels::Activation::gelu_tanh: {
      const double inner = kRoot * (value + 0.044715 * value * value * value);
      // 1 + tanh(inner), which loses every digit where it is near 0.
      return value / (1.0 + std::exp(-2.0 * inner));
    }
    case kernels::Activation::quick_gelu:
      return value / (1.0 + std::exp(-1.702 * value));
    case kernels::Activation::silu:
      return value / (1.0 + std::exp(-value));
    default:
      return value;
  }
}

Matrix linear(const Matrix& in, const Matrix& weight, const Matrix& bias,
              kernels::Activation activation, const Matrix& residual) {
  Matrix out(in.rows(), weight.rows());
  for (std::int64_t m = 0; m < in.rows(); ++m) {
    for (std::int64_t n = 0; n < weight.rows(); ++n) {
      double value = bias.rows() > 0 ? bias.at(0, n) : 0.0;
      for (std::int64_t k = 0; k < in.columns(); ++k) value += in.at(m, k) * weight.at(n, k);
      value = activate(value, activation);
      if (residual.rows() > 0) value += residual.at(m, n);
      out.set(m, n, value);
    }
  }
  return out;
}

Matrix attention(const Matrix& query, const Matrix& keys, const Matrix& values,
                 std::int32_t query_heads, double scale) {
  return attention(query, keys, values, query_heads,
                   kernels::AttentionRule{.scale = static_cast<float>(scale)});
}

namespace {

/// The softmax of a query head, over the keys from `from` on that the query at `position` sees.
std::vector<double> softmax(const Matrix& query, std::int64_t row, const Matrix& keys,
                            std::int64_t from, std::int32_t head, std::int32_t query_heads,
                            const kernels::AttentionRule& rule) {
  const std::int64_t dim = query.columns() / query_heads;
  const std::int64_t of_key = head / (query.columns() / keys.columns()) * dim;
  const std::int64_t position = keys.rows() - query.rows() + row;
  const double slope = rule.alibi * alibi_slope(head, query_heads);
  std::vector<double> weight;
  for (std::int64_t key = from; key <= position; ++key) {
    double score = 0.0;
    for (std::int64_t i = 0; i < dim; ++i) {
      score += rule.scale * query.at(row, head * dim + i) * keys.at(key, of_key + i);
    }
    if (rule.soft_cap > 0) score = rule.soft_cap * std::tanh(score / rule.soft_cap);
    weight.push_back(score + slope * static_cast<double>(key - position));
  }
  const double highest = *std::max_element(weight.begin(), weight.end());
  double total = 0.0;
  for (double& score : weight) total += (score = std::exp(score - highest));
  for (double& score : weight) score /= total;
  return weight;
}

}  // namespace

Matrix attention(const Matrix& query, const Matrix& keys, const Matrix& values,
                 std::int32_t query_heads, const kernels::AttentionRule& rule) {
  Matrix out(query.rows(), query.columns());
  const std::int64_t dim = query.columns() / query_heads;
  const auto group = static_cast<std::int32_t>(query.columns() / keys.columns());
  for (std::int64_t row = 0; row < query.rows(); ++row) {
    const std::int64_t position = keys.rows() - query.rows() + row;
    const std::int64_t from =
        rule.window > 0 ? std::max<std::int64_t>(0, position - rule.window + 1) : 0;
    for (std::int32_t kv_head = 0; kv_head < query_heads / group; ++kv_head) {
      std::vector<std::vector<double>> weights;
      for (std::int32_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        weights.push_back(softmax(query, row, keys, from, head, query_heads, rule));
      }
      const std::vector<bool> kept = kept_keys(weights, rule.kept_millionths);
      for (std::int64_t i = 0; i < group * dim; ++i) {
        const std::vector<double>& weight = weights[static_cast<std::size_t>(i / dim)];
        double value = 0.0;
        for (std::size_t j = 0; j < weight.size(); ++j) {
          if (!kept[j]) continue;
          value +=
              weight[j] * values.at(from + static_cast<std::int64_t>(j), kv_head * dim + i % dim);
        }
        out.set(row, kv_head * group * dim + i, value);
      }
    }
  }
  return out;
}

}  // namespace sluice::reference
