// Rotary positions from a config.json: rope_theta, rope_scaling and partial_rotary_factor, or
// rope_parameters, in which transformers 5 keeps all three.
// Source: transformers' modeling_rope_utils.py.
#pragma once

#include <cstdint>

#include "launcher/model/config_reader.h"
#include "stage/decoder_config.h"

namespace sluice::launcher {

/// What a family calls the keys, and what stands for absent ones.
struct RotaryKeys {
  const char* theta = "rope_theta";
  const char* part = "partial_rotary_factor";
  double usual_theta = 10000.0;
  double usual_part = 1.0;         // of a head's elements
  bool neighbours = false;         // kernels::Rotation::neighbours
  std::int32_t max_positions = 0;  // max_position_embeddings
  /// Of several kinds of layers: the object in rope_parameters that is this kind's.
  const char* layer_type = nullptr;
};

/// The scalings default, linear, llama3, yarn and longrope. Throws InputError, with the key, for
/// all others: "dynamic" makes a token depend on which rows share its batch.
stage::RotaryTraits read_rotary(const ConfigReader& config, std::int32_t head_width,
                                const RotaryKeys& keys);

/// Without scaling.
stage::RotaryTraits plain_rotary(std::int32_t width, double theta, bool neighbours);

}  // namespace sluice::launcher
