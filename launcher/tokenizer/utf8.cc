#include "launcher/tokenizer/utf8.h"

#include <algorithm>
#include <cstring>

namespace sluice::launcher {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

/// Length of the character that `lead` begins; 0: none does. [low, high] bounds its second byte,
/// which is where surrogates, overlong forms and values above U+10FFFF are told apart.
std::size_t character_bytes(unsigned char lead, unsigned char& low, unsigned char& high) {
  low = 0x80;
  high = 0xBF;
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) {
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    return 3;
  }
  if (lead > 0xF4) return 0;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  return 4;
}

/// Eights of ASCII bytes that `bytes` begins with.
std::size_t ascii_bytes(std::string_view bytes) {
  std::size_t at = 0;
  for (std::uint64_t eight = 0; at + sizeof eight <= bytes.size(); at += sizeof eight) {
    std::memcpy(&eight, bytes.data() + at, sizeof eight);
    if ((eight & 0x8080808080808080U) != 0) break;
  }
  return at;
}

/// Appends all parts of `bytes` but a cut one at the end; returns the bytes read.
std::size_t append_parts(std::string& text, std::string_view bytes) {
  std::size_t at = 0;
  std::size_t sound = 0;  // [sound, at) is not copied yet
  while (at < bytes.size()) {
    if (static_cast<unsigned char>(bytes[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Part part = first_part(bytes.substr(at));
    if (part.kind == Utf8::cut) break;
    if (part.kind == Utf8::broken) {
      text.append(bytes, sound, at - sound);
      text.append(kReplacement);
      sound = at + part.bytes;
    }
    at += part.bytes;
  }
  text.append(bytes, sound, at - sound);
  return at;
}

}  // namespace

Utf8Part first_part(std::string_view bytes) {
  unsigned char low = 0;
  unsigned char high = 0;
  const std::size_t wanted = character_bytes(static_cast<unsigned char>(bytes[0]), low, high);
  if (wanted == 0) return {Utf8::broken, 1};
  for (std::size_t i = 1; i < wanted; ++i) {
    if (i == bytes.size()) return {Utf8::cut, i};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const bool fits = i == 1 ? byte >= low && byte <= high : is_continuation(bytes[i]);
    if (!fits) return {Utf8::broken, i};
  }
  return {Utf8::character, wanted};
}

std::string replace_broken(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  if (append_parts(text, bytes) < bytes.size()) text.append(kReplacement);
  return text;
}

std::string take_whole(std::string& bytes) {
  std::string text;
  bytes.erase(0, append_parts(text, bytes));
  return text;
}

bool is_valid_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    bytes.remove_prefix(ascii_bytes(bytes));
    if (bytes.empty()) break;
    const Utf8Part part = first_part(bytes);
    if (part.kind != Utf8::character) return false;
    bytes.remove_prefix(part.bytes);
  }
  return true;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return !is_continuation(byte); }));
}

std::string_view last_part(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && is_continuation(text[begin])) --begin;
  return text.substr(begin);
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

void append_character(std::string& text, char32_t character) {
  const auto put = [&text](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  const std::uint32_t value = character;
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | value >> 6);
    put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | value >> 12);
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | value >> 18);
    put(0x80 | (value >> 12 & 0x3F));
    put(0x80 | (value >> 6 & 0x3F));
    put(0x80 | (value & 0x3F));
  }
}

char32_t first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return lead;
  const std::size_t bytes = first_part(text).bytes;
  std::uint32_t value = lead & (0xFFU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    value = value << 6 | (static_cast<unsigned char>(text[i]) & 0x3FU);
  }
  return value;
}

}  // namespace sluice::launcher
