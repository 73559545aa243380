// The vocabulary that a GGUF file has in its metadata: SentencePiece's byte pairs with scores
// ("llama"), or byte-level BPE ("gpt2") whose split pattern goes by a name.
// Source: src/llama-vocab.cpp and conversion/base.py of github.com/ggml-org/llama.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "launcher/tokenizer/vocabulary.h"
#include "offload/checkpoint/gguf_file.h"

namespace sluice::launcher {

/// Whether the file has one at all: models without answer prompts of ids.
bool has_vocabulary(const offload::GgufFile& file);

/// Throws InputError naming file and key: a model or a pattern that is not known, with the list of
/// those that are; lists of unequal lengths; tokens or merges that cannot be.
Vocabulary read_gguf_vocabulary(const std::filesystem::path& file);

/// What the metadata says of tokens that are none of a text; -1: nothing.
struct GgufIds {
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  /// All that end an answer: EOS first, ends of turns and messages, and tokens that llama.cpp takes
  /// for such by their texts.
  std::vector<std::int32_t> ends;
};
/// Throws InputError, with the key, for an id of `tokens` or more.
GgufIds read_gguf_ids(const offload::GgufFile& file, std::int32_t tokens);

}  // namespace sluice::launcher
