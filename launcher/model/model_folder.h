// From what the user calls a model to a folder, or a GGUF file, and what its config.json, or its
// metadata, says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/model/family.h"
#include "stage/decoder_config.h"

namespace sluice::launcher {

/// How generation_config.json wants the model's answers sampled; what it does not say is empty.
struct ModelSamplingDefaults {
  std::optional<float> temperature;
  std::optional<std::int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<std::int32_t> no_repeat_ngram;
};

struct ModelFolder {
  /// The folder, or the GGUF file that has everything. Empty: only the model's published shape is
  /// known.
  std::filesystem::path path;
  /// Where `path` is empty: the model's name on the hub. It has no weights and no tokenizer here.
  std::string published;
  const Family* family = nullptr;
  stage::DecoderConfig config;
  /// Ids that end an answer: generation_config.json's, else config.json's. Never empty.
  std::vector<std::int32_t> eos_ids;
  ModelSamplingDefaults sampling;
  /// Of everything above but the path: ranks compare it in the handshake.
  std::uint64_t digest = 0;
};

/// `model` is a folder, a GGUF file, or else a hub id ("facebook/opt-1.3b") in the local cache of
/// the Hugging Face hub (hub_cache.h). A folder that has no other weights than one GGUF model
/// stands for its (first) file. Nothing is downloaded. Throws InputError if it is none of them,
/// with the command that downloads it, and for a folder of several GGUF models.
std::filesystem::path find_model_folder(const std::string& model);

/// Finds the folder and reads its config.json, or the metadata of a GGUF file
/// (read_gguf_model()), opening no weights. Of a model that is neither here nor in the hub's cache
/// the shape in published_shapes.h stands for it. Keys that config.json lacks are what Hugging Face
/// makes of them. Throws InputError: no such model (with the nearest name of a known shape), no
/// config.json, none of the families `known`, values that cannot be.
ModelFolder open_model(const std::string& model, const Families& known = families());

/// What ModelFolder::digest is.
std::uint64_t digest_of(const ModelFolder& folder);

}  // namespace sluice::launcher
