// Which layers each stage owns where the user did not say. The slowest stage must be as fast as it
// can be. Decoding is bound by reading weights, so a stage weighs what a decode step reads of it:
// its decoder layers, and on the last stage the output head (as much as two layers of a model
// of 1.3 billion parameters). The embedding weighs nothing: a step reads few of its rows.
#pragma once

#include <cstdint>
#include <vector>

#include "stage/decoder_config.h"
#include "stage/stage_config.h"

namespace sluice::stage {

/// In any one unit.
struct DecodeWeights {
  std::uint64_t layer = 1;  // of each decoder layer
  std::uint64_t head = 0;   // of the output head
};

/// In elements.
DecodeWeights decode_weights(const DecoderConfig& model);

/// Sets `stages[i].first_layer` and `.layers`, keeps the rest: every stage has a layer, and the
/// largest weight of a stage is the smallest there is. Where splits are equal in that, earlier
/// stages have the more layers. Throws ConfigError for more stages than layers.
void split_layers(std::vector<StageConfig>& stages, std::int32_t model_layers,
                  const DecodeWeights& weights);

}  // namespace sluice::stage
