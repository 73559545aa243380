#include "launcher/structured/text_cursor.h"

#include <fmt/format.h>

#include "launcher/structured/grammar_problem.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

bool is_name(char byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         byte == '_' || byte == '-';
}

int hex_of(char byte) {
  if (is_digit(byte)) return byte - '0';
  const char lower = static_cast<char>(byte | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

bool TextCursor::take(std::string_view expected) {
  if (!starts(expected)) return false;
  at_ += expected.size();
  return true;
}

char32_t TextCursor::next() {
  std::size_t bytes = 0;
  const char32_t character = character_at(text_, at_, bytes);
  at_ += bytes;
  return character;
}

std::string_view TextCursor::take_name() {
  const std::size_t begin = at_;
  while (is_name(peek())) ++at_;
  return text_.substr(begin, at_ - begin);
}

std::optional<std::int64_t> TextCursor::take_number(std::int64_t most) {
  if (!is_digit(peek())) return {};
  std::int64_t number = 0;
  while (is_digit(peek())) {
    number = number * 10 + (peek() - '0');
    if (number > most) fail(fmt::format("has a number above {}", most));
    ++at_;
  }
  return number;
}

char32_t TextCursor::take_hex(int digits) {
  char32_t value = 0;
  for (int i = 0; i < digits; ++i) {
    const int digit = hex_of(peek());
    if (digit < 0) fail(fmt::format("has an escape that wants {} hexadecimal digits", digits));
    value = value << 4 | static_cast<char32_t>(digit);
    ++at_;
  }
  return value;
}

void TextCursor::fail(const std::string& what) const {
  throw GrammarProblem(
      fmt::format("the {} {} (at character {})", name_, what,
                  count_characters(text_.substr(0, at_ < text_.size() ? at_ : text_.size())) + 1));
}

}  // namespace sluice::launcher
