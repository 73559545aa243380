// The tokenizer of a run's model.
#pragma once

#include "launcher/model/model_folder.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// That of the model's files, or where there are none, one of token ids alone. Throws InputError.
Tokenizer open_tokenizer(const ModelFolder& model);

}  // namespace sluice::launcher
