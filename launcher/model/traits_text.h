// What sets a decoder apart, in words for people.
#pragma once

#include <string>
#include <vector>

#include "stage/decoder_config.h"

namespace sluice::launcher {

/// Nothing is said of what GPT's first layout has: layer norms before the blocks, learned
/// positions, a plain MLP with ReLU, biases everywhere, an embedding that is the head.
std::vector<std::string> traits_in_words(const stage::DecoderConfig& model);

}  // namespace sluice::launcher
