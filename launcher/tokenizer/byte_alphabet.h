// GPT-2's alphabet: each of the 256 bytes is written as one printable character, so that a
// vocabulary of byte strings can be kept in text files. (GPT-2 encoder.py, bytes_to_unicode.)
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// The character that stands for `byte`, in UTF-8.
std::string byte_symbol(unsigned char byte);

/// The bytes that a token of the vocabulary stands for; nothing if a character is no byte's symbol.
std::optional<std::string> bytes_of_symbols(std::string_view token);

}  // namespace sluice::launcher
