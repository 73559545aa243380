// Which tokens a look-up of guesses may take for each other.
#pragma once

#include <cstdint>
#include <vector>

#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// By id of the model's `vocabulary`, the lowest id whose text is the same but for blanks in front.
/// Tokens without a text, or of blanks alone, are like none.
std::vector<std::int32_t> alike_tokens(const Tokenizer& tokenizer, std::int32_t vocabulary);

}  // namespace sluice::launcher
