// Python's str by code points, over valid UTF-8: places, white space, case.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

/// Bytes of the character that begins at `at`.
std::size_t character_bytes(std::string_view text, std::size_t at);
/// Where character `index` begins. Pre: index <= characters.
std::size_t byte_of(const Text& text, std::size_t index);
std::u32string decode(std::string_view text);
void append(std::string& text, char32_t character);
std::string encode(std::u32string_view characters);

/// text.find(wanted), in time linear in both whatever they are.
std::size_t find_bytes(std::string_view text, std::string_view wanted);

/// str.isspace() of one character.
bool is_space(char32_t character);

enum class Side : unsigned char { both, left, right };
/// str.strip(chars), lstrip and rstrip; `chars` null: white space.
std::string_view strip(std::string_view text, const std::string* chars, Side side);
/// str.splitlines(keepends).
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// str.upper() and so on, by Unicode's full mappings as glibc knows its characters.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
/// str.title(): every letter behind none is upper case.
std::string title(std::string_view text);
std::string swap_case(std::string_view text);
bool is_upper(char32_t character);
bool is_lower(char32_t character);
bool is_letter(char32_t character);
/// Unicode's decimal digits as far as templates meet them: str.isdecimal().
bool is_digit(char32_t character);
/// repr() of a str shows it as it is.
bool is_printable(char32_t character);

}  // namespace sluice::launcher::jinja
