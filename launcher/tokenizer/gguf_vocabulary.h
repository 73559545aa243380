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

/// Whether the file has a vocabulary. A model without one answers prompts of ids.
bool has_vocabulary(const offload::GgufFile& file);

/// Throws InputError naming file and key: a model or a pattern that is not known, with the list of
/// those that are; lists of unequal lengths; tokens or merges that cannot be.
Vocabulary read_gguf_vocabulary(const std::filesystem::path& file);

/// Tokens that stand around texts, by the metadata; -1: it names none.
struct GgufIds {
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  /// All that end an answer: EOS first, then ends of turns and of messages, then tokens that
  /// llama.cpp knows as ends by their texts.
  std::vector<std::int32_t> ends;
};
/// Throws InputError, with the key, for an id of `tokens` or more.
GgufIds read_gguf_ids(const offload::GgufFile& file, std::int32_t tokens);

}  // namespace sluice::launcher
