// Reads a GGUF file as a model: from its metadata what a config.json would say, and the ids that
// end an answer.
#pragma once

#include <filesystem>

#include "launcher/model/model_folder.h"

namespace sluice::launcher {

/// Reads the metadata of `file` and the names of its tensors, no weights. Keys are those of
/// llama.cpp's llama, qwen2 and qwen3. A key that changes the result is refused by name where its
/// value cannot be run. The digest is left to the caller. Throws InputError naming file and key.
ModelFolder read_gguf_model(const std::filesystem::path& file);

}  // namespace sluice::launcher
