#include "launcher/model/rotary_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>

#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

using std::numbers::pi;

/// Inverse frequencies of pairs i: theta^(-2i / width). None of a width that no head has:
/// DecoderConfig::validate() refuses that, before memory is taken for them.
std::vector<double> inverse_frequencies(std::int32_t width, double theta) {
  constexpr std::int32_t kMostWidth = 1 << 16;
  std::vector<double> result;
  if (width > kMostWidth) return result;
  for (std::int32_t i = 0; i < width / 2; ++i) {
    result.push_back(std::pow(theta, -2.0 * i / width));
  }
  return result;
}

std::vector<float> rounded(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

/// A number that must be there and positive.
double positive(const ConfigReader& config, const char* key) {
  const double value = config.real(key, 0);
  if (!(value > 0)) config.fail(fmt::format("{} is not there, or not above 0", key));
  return value;
}

void scale_llama3(const ConfigReader& scaling, std::vector<double>& frequencies) {
  const double factor = positive(scaling, "factor");
  const double low = positive(scaling, "low_freq_factor");
  const double high = positive(scaling, "high_freq_factor");
  const double trained = positive(scaling, "original_max_position_embeddings");
  if (high <= low) scaling.fail(fmt::format("high_freq_factor {} is not above {}", high, low));
  for (double& f : frequencies) {
    const double wave = 2 * pi / f;
    if (wave < trained / high) continue;
    const double smooth = wave > trained / low ? 0.0 : (trained / wave - low) / (high - low);
    f = (1 - smooth) * f / factor + smooth * f;
  }
}

double yarn_factor(const ConfigReader& scaling, double factor) {
  const auto of = [factor](double scale) {
    return factor > 1 ? 0.1 * scale * std::log(factor) + 1 : 1.0;
  };
  const double given = scaling.real("attention_factor", 0, IfNull::absent);
  if (given > 0) return given;
  const double mscale = scaling.real("mscale", 0, IfNull::absent);
  const double all = scaling.real("mscale_all_dim", 0, IfNull::absent);
  return mscale != 0 && all != 0 ? of(mscale) / of(all) : of(1);
}

/// Peng et al., "YaRN", 2023. Returns the factor on sine and cosine.
double scale_yarn(const ConfigReader& scaling, std::int32_t width, double theta,
                  std::int32_t max_positions, std::vector<double>& frequencies) {
  const double factor = positive(scaling, "factor");
  const double trained =
      scaling.real("original_max_position_embeddings", max_positions, IfNull::absent);
  if (!(trained > 0)) {
    scaling.fail(fmt::format("original_max_position_embeddings is {}, not above 0", trained));
  }
  const auto dimension_of = [&](double rotations) {
    return width * std::log(trained / (2 * pi * rotations)) / (2 * std::log(theta));
  };
  double low = dimension_of(scaling.real("beta_fast", 32, IfNull::absent));
  double high = dimension_of(scaling.real("beta_slow", 1, IfNull::absent));
  if (scaling.flag("truncate", true, IfNull::absent)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, width - 1.0);
  const double distance = high == low ? 0.001 : high - low;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / distance, 0.0, 1.0);
    frequencies[i] = frequencies[i] / factor * ramp + frequencies[i] * (1 - ramp);
  }
  return yarn_factor(scaling, factor);
}

std::vector<float> divided(const ConfigReader& scaling, const char* key,
                           const std::vector<double>& frequencies) {
  std::vector<double> factors = scaling.reals(key);
  if (factors.size() != frequencies.size()) {
    scaling.fail(fmt::format("{} has {} numbers, but {} pairs of a head's elements turn", key,
                             factors.size(), frequencies.size()));
  }
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0)) scaling.fail(fmt::format("{} has a number that is not above 0", key));
    factors[i] = frequencies[i] / factors[i];
  }
  return rounded(factors);
}

/// Ding et al., "LongRoPE", 2024. Sequences of more than the trained tokens have the long factors.
void scale_longrope(const ConfigReader& config, const ConfigReader& scaling, const RotaryKeys& keys,
                    const std::vector<double>& frequencies, stage::RotaryTraits& rotary) {
  const char* const key = "original_max_position_embeddings";
  const std::int32_t inner = scaling.integer(key, keys.max_positions, IfNull::absent);
  rotary.long_after = config.integer(key, inner, IfNull::absent);
  if (rotary.long_after < 2) config.fail(fmt::format("{} is {}", key, rotary.long_after));
  rotary.frequencies = divided(scaling, "short_factor", frequencies);
  rotary.long_frequencies = divided(scaling, "long_factor", frequencies);
  const double trained = rotary.long_after;
  const double stretch = scaling.real("factor", keys.max_positions / trained, IfNull::absent);
  const double usual = stretch <= 1 ? 1.0 : std::sqrt(1 + std::log(stretch) / std::log(trained));
  rotary.factor = static_cast<float>(scaling.real("attention_factor", usual, IfNull::absent));
}

/// The object that says how rotary positions are scaled; none: they are not.
std::optional<ConfigReader> scaling_of(const ConfigReader& config, const char* layer_type) {
  std::optional<ConfigReader> parameters = config.object("rope_parameters");
  if (!parameters) return config.object("rope_scaling");
  if (layer_type == nullptr || !parameters->has(layer_type)) return parameters;
  return parameters->object(layer_type);
}

}  // namespace

stage::RotaryTraits plain_rotary(std::int32_t width, double theta, bool neighbours) {
  stage::RotaryTraits rotary;
  rotary.width = width;
  rotary.neighbours = neighbours;
  rotary.frequencies = rounded(inverse_frequencies(width, theta));
  return rotary;
}

stage::RotaryTraits read_rotary(const ConfigReader& config, std::int32_t head_width,
                                const RotaryKeys& keys) {
  const std::optional<ConfigReader> scaling = scaling_of(config, keys.layer_type);
  double theta = config.real(keys.theta, keys.usual_theta, IfNull::absent);
  double part = config.real(keys.part, keys.usual_part, IfNull::absent);
  std::string kind = "default";
  if (scaling) {
    theta = scaling->real("rope_theta", theta, IfNull::absent);
    part = scaling->real("partial_rotary_factor", part, IfNull::absent);
    kind = scaling->text("rope_type", scaling->text("type", kind, IfNull::absent), IfNull::absent);
  }
  if (!(theta > 1)) config.fail(fmt::format("{} is {}, not above 1", keys.theta, theta));
  if (!(part > 0 && part <= 1)) {
    config.fail(fmt::format("{} is {}, no share of a head", keys.part, part));
  }
  stage::RotaryTraits rotary;
  rotary.width = static_cast<std::int32_t>(head_width * part);
  rotary.neighbours = keys.neighbours;
  std::vector<double> frequencies = inverse_frequencies(rotary.width, theta);
  if (kind == "linear") {
    const double factor = positive(*scaling, "factor");
    for (double& f : frequencies) f /= factor;
  } else if (kind == "llama3") {
    scale_llama3(*scaling, frequencies);
  } else if (kind == "yarn") {
    rotary.factor = static_cast<float>(
        scale_yarn(*scaling, rotary.width, theta, keys.max_positions, frequencies));
  } else if (kind == "longrope" || kind == "su") {
    scale_longrope(config, *scaling, keys, frequencies, rotary);
    return rotary;
  } else if (kind != "default") {
    scaling->fail(fmt::format(
        "rope_type is \"{}\", but only default, linear, llama3, yarn and longrope can run",
        offload::printable(kind)));
  }
  rotary.frequencies = rounded(frequencies);
  return rotary;
}

}  // namespace sluice::launcher
