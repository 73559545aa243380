// UTF-8, read the way Python's decode(errors="replace") reads it: each maximal broken part becomes
// one U+FFFD (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::launcher {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8 : std::uint8_t {
  character,  // a whole character
  broken,     // a maximal broken part
  cut,        // the end of the bytes came before the end of a character that is right so far
};

struct Utf8Part {
  Utf8 kind = Utf8::character;
  std::size_t bytes = 1;
};

/// The first part of `bytes`. Pre: not empty.
Utf8Part first_part(std::string_view bytes);

/// `bytes` as valid UTF-8.
std::string replace_broken(std::string_view bytes);

/// Removes all whole parts from `bytes` and returns them as valid UTF-8. A cut part stays.
std::string take_whole(std::string& bytes);

bool is_valid_utf8(std::string_view bytes);

/// Characters of valid UTF-8.
std::size_t count_characters(std::string_view text);

/// The last character of valid, not empty UTF-8, as its bytes.
std::string_view last_part(std::string_view text);

/// Unicode's White_Space.
bool is_white_space(char32_t character);

/// Appends `character`, a Unicode scalar value, in UTF-8.
void append_character(std::string& text, char32_t character);

/// The first character of valid, not empty UTF-8.
char32_t first_character(std::string_view text);

/// The character at `at` of valid UTF-8, whose size becomes `bytes`. Pre: it is in the text.
inline char32_t character_at(std::string_view text, std::size_t at, std::size_t& bytes) {
  const auto lead = static_cast<unsigned char>(text[at]);
  bytes = 1;
  if (lead < 0x80) return lead;
  bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = lead & (0xFFU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    value = value << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
  }
  return value;
}

}  // namespace sluice::launcher
