// A byte-level vocabulary small enough to be checked by eye: OPT's four special tokens (ids 0..3),
// the 256 bytes (id 4 + byte), and the merges given.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::support {

constexpr std::int32_t kFirstByte = 4;
constexpr std::int32_t kFirstMerge = kFirstByte + 256;

/// The token of a single byte.
inline std::int32_t byte_id(char byte) { return kFirstByte + static_cast<unsigned char>(byte); }

inline std::string symbols_of(const std::string& bytes) {
  std::string symbols;
  for (const char byte : bytes) symbols += launcher::byte_symbol(static_cast<unsigned char>(byte));
  return symbols;
}

using Merges = std::vector<std::pair<std::string, std::string>>;

/// Merge i makes token kFirstMerge + i. `table_size` 0: no ids without a token.
inline launcher::Vocabulary small_vocabulary(const Merges& merges = {},
                                             std::int32_t table_size = 0) {
  launcher::Vocabulary vocabulary;
  for (const char* text : {"<s>", "<pad>", "</s>", "<unk>"}) {
    launcher::add_token(text, vocabulary.size, "test", vocabulary);
  }
  for (int byte = 0; byte < 256; ++byte) {
    launcher::add_token(symbols_of(std::string(1, static_cast<char>(byte))), vocabulary.size,
                        "test", vocabulary);
  }
  for (const auto& [left, right] : merges) {
    launcher::add_token(symbols_of(left + right), vocabulary.size, "test", vocabulary);
    launcher::add_merge(symbols_of(left), symbols_of(right), "test", vocabulary);
  }
  launcher::add_added_token({.text = "</s>"}, "test", vocabulary);
  launcher::add_added_token({.text = "<pad>"}, "test", vocabulary);
  vocabulary.prefix = {2};
  vocabulary.bos = vocabulary.eos = vocabulary.unknown = 2;
  vocabulary.pad = 1;
  vocabulary.table_size = table_size > 0 ? table_size : vocabulary.size;
  return vocabulary;
}

inline launcher::Tokenizer small_tokenizer(const Merges& merges = {}, std::int32_t table_size = 0) {
  return launcher::Tokenizer(small_vocabulary(merges, table_size));
}

}  // namespace sluice::support
