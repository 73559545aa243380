#include "launcher/chat/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "launcher/chat/jinja/characters.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

constexpr std::string_view kSigns[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                       ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

/// Line ends of all systems become '\n', and one at the end goes.
std::string with_plain_line_ends(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t at = 0; at < source.size(); ++at) {
    if (source[at] != '\r') {
      text += source[at];
    } else {
      text += '\n';
      if (at + 1 < source.size() && source[at + 1] == '\n') ++at;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool begins_name(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
         static_cast<unsigned char>(byte) >= 0x80;
}
bool continues_name(char byte) { return begins_name(byte) || is_digit(byte); }

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& where)
      : where_(where), source_(with_plain_line_ends(source)), rest_(source_) {}

  std::vector<Token> read() {
    while (!rest_.empty()) read_data();
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw TemplateError(TemplateError::Kind::syntax, where_, line_, message);
  }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  /// Goes on behind `bytes`, counting lines.
  std::string_view take(std::size_t bytes) {
    const std::string_view taken = rest_.substr(0, bytes);
    line_ += static_cast<int>(std::ranges::count(taken, '\n'));
    if (bytes > 0) line_begins_ = taken.back() == '\n';
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::size_t spaces_at(std::size_t at) const {
    const std::size_t begin = at;
    while (at < rest_.size() && is_space(first_character(rest_.substr(at)))) {
      at += character_bytes(rest_, at);
    }
    return at - begin;
  }

  /// The text before the next tag, and what the tag is.
  void read_data() {
    std::size_t at = rest_.find('{');
    while (at != std::string_view::npos && at + 1 < rest_.size() && rest_[at + 1] != '{' &&
           rest_[at + 1] != '%' && rest_[at + 1] != '#') {
      at = rest_.find('{', at + 1);
    }
    if (at == std::string_view::npos || at + 1 >= rest_.size()) {
      add_data(rest_);
      take(rest_.size());
      return;
    }
    const char kind = rest_[at + 1];
    const char sign = at + 2 < rest_.size() ? rest_[at + 2] : 0;
    add_data(stripped(rest_.substr(0, at), sign, kind != '{'));
    take(at + 2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (kind == '#') return skip_comment();
    if (kind == '%' && read_raw()) return;
    read_tag(kind == '{');
  }

  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenKind::data, std::string(text));
  }

  /// The text in front of a tag, without the white space that the tag takes.
  std::string_view stripped(std::string_view text, char sign, bool is_block) const {
    if (sign == '-') return strip(text, nullptr, Side::right);
    if (sign == '+' || !is_block) return text;
    const std::size_t last = text.rfind('\n');
    const std::size_t begin = last == std::string_view::npos ? 0 : last + 1;
    if (last == std::string_view::npos && !line_begins_) return text;
    const bool blank = strip(text.substr(begin), nullptr, Side::both).empty();
    return blank ? text.substr(0, begin) : text;
  }

  /// Bytes of "%}" at `at` with its sign and the white space that it takes; 0: there is none.
  std::size_t end_bytes(std::size_t at, std::string_view brackets, bool trims) const {
    const char sign = at < rest_.size() ? rest_[at] : 0;
    const bool minus = sign == '-';
    const bool plus = sign == '+' && trims;  // "+}}" ends nothing
    const std::size_t begin = at + (minus || plus ? 1 : 0);
    if (!rest_.substr(std::min(begin, rest_.size())).starts_with(brackets)) return 0;
    std::size_t end = begin + 2;
    if (minus) {
      end += spaces_at(end);
    } else if (trims && !plus && end < rest_.size() && rest_[end] == '\n') {
      ++end;
    }
    return end - at;
  }

  void skip_comment() {
    for (std::size_t at = 0; at < rest_.size(); ++at) {
      at = std::min(rest_.find('#', at), rest_.size());
      const bool signed_end = at > 0 && (rest_[at - 1] == '-' || rest_[at - 1] == '+');
      const std::size_t from = signed_end ? at - 1 : at;
      if (const std::size_t bytes = end_bytes(from, "#}", true); bytes > 0) {
        take(from + bytes);
        return;
      }
    }
    fail("a comment is not ended; write #} behind it");
  }

  /// Behind "{%": {% raw %}, whose content is data as it is.
  bool read_raw() {
    std::size_t at = spaces_at(0);
    if (!rest_.substr(at).starts_with("raw")) return false;
    at += 3;
    at += spaces_at(at);
    const bool minus = rest_.substr(at).starts_with("-%}");
    if (!minus && !rest_.substr(at).starts_with("%}")) return false;
    at += minus ? 3 : 2;
    if (minus) at += spaces_at(at);
    take(at);
    for (std::size_t end = rest_.find("{%"); end != std::string_view::npos;
         end = rest_.find("{%", end + 1)) {
      const char sign = end + 2 < rest_.size() ? rest_[end + 2] : 0;
      std::size_t word = end + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      word += spaces_at(word);
      if (!rest_.substr(word).starts_with("endraw")) continue;
      word += 6;
      word += spaces_at(word);
      const std::size_t bytes = end_bytes(word, "%}", true);
      if (bytes == 0) continue;
      add_data(stripped(rest_.substr(0, end), sign, true));
      take(word + bytes);
      return true;
    }
    fail("{% raw %} is not ended; write {% endraw %} behind it");
  }

  void read_tag(bool is_variable) {
    add(is_variable ? TokenKind::variable_begin : TokenKind::block_begin, "");
    brackets_.clear();
    for (;;) {
      if (brackets_.empty()) {
        const std::size_t bytes = end_bytes(0, is_variable ? "}}" : "%}", !is_variable);
        if (bytes > 0) {
          add(is_variable ? TokenKind::variable_end : TokenKind::block_end, "");
          take(bytes);
          return;
        }
      }
      if (const std::size_t spaces = spaces_at(0); spaces > 0) {
        take(spaces);
      } else if (rest_.empty()) {
        fail(fmt::format("the template ends inside of a tag; write {} behind it",
                         is_variable ? "}}" : "%}"));
      } else {
        read_token();
      }
    }
  }

  void read_token() {
    const char byte = rest_[0];
    if (is_digit(byte)) return read_number();
    if (byte == '\'' || byte == '"') return read_text();
    if (begins_name(byte)) {
      const auto* const end = std::ranges::find_if_not(rest_, continues_name);
      const auto bytes = static_cast<std::size_t>(end - rest_.begin());
      add(TokenKind::name, std::string(rest_.substr(0, bytes)));
      take(bytes);
      return;
    }
    for (const std::string_view sign : kSigns) {
      if (!rest_.starts_with(sign)) continue;
      balance(sign[0]);
      add(TokenKind::sign, std::string(sign));
      take(sign.size());
      return;
    }
    fail(fmt::format("unexpected character {}",
                     fmt::format("'{}'", rest_.substr(0, character_bytes(rest_, 0)))));
  }

  void balance(char sign) {
    constexpr std::string_view kOpen = "([{";
    constexpr std::string_view kClose = ")]}";
    if (kOpen.find(sign) != std::string_view::npos) brackets_ += sign;
    const std::size_t closes = kClose.find(sign);
    if (closes == std::string_view::npos) return;
    if (brackets_.empty()) fail(fmt::format("unexpected '{}'", sign));
    const char open = brackets_.back();
    if (open != kOpen[closes]) {
      fail(fmt::format("unexpected '{}', expected '{}'", sign, kClose[kOpen.find(open)]));
    }
    brackets_.pop_back();
  }

  /// Digits with single underscores between them.
  std::size_t digits_at(std::size_t at) const {
    const std::size_t begin = at;
    while (at < rest_.size() &&
           (is_digit(rest_[at]) ||
            (rest_[at] == '_' && at > begin && at + 1 < rest_.size() && is_digit(rest_[at + 1])))) {
      ++at;
    }
    return at - begin;
  }

  void read_number() {
    if (rest_[0] == '0' && rest_.size() > 1 &&
        std::string_view("xXoObB").find(rest_[1]) != std::string_view::npos) {
      return read_prefixed();
    }
    std::size_t bytes = digits_at(0);
    bool real = false;
    const bool behind_dot = !tokens_.empty() && tokens_.back().is_sign(".");
    if (!behind_dot && bytes < rest_.size()) {
      if (rest_[bytes] == '.' && digits_at(bytes + 1) > 0) {
        bytes += 1 + digits_at(bytes + 1);
        real = true;
      }
      if (bytes < rest_.size() && (rest_[bytes] == 'e' || rest_[bytes] == 'E')) {
        std::size_t at = bytes + 1;
        if (at < rest_.size() && (rest_[at] == '+' || rest_[at] == '-')) ++at;
        if (digits_at(at) > 0) {
          bytes = at + digits_at(at);
          real = true;
        }
      }
    }
    std::string text(rest_.substr(0, bytes));
    std::erase(text, '_');
    if (!real && text[0] == '0' && text.find_first_not_of('0') != std::string::npos) {
      fail(fmt::format("the number {} begins with 0", text));
    }
    take(bytes);
    add(real ? TokenKind::real : TokenKind::integer, std::move(text));
  }

  void read_prefixed() {
    const int base = rest_[1] == 'x' || rest_[1] == 'X'   ? 16
                     : rest_[1] == 'o' || rest_[1] == 'O' ? 8
                                                          : 2;
    std::size_t bytes = 2;
    while (bytes < rest_.size() && (continues_name(rest_[bytes]))) ++bytes;
    std::string digits(rest_.substr(2, bytes - 2));
    std::erase(digits, '_');
    std::int64_t number = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, number, base);
    if (error != std::errc() || stop != end || number < 0) {
      fail(fmt::format("'{}' is no number of 64 bits", rest_.substr(0, bytes)));
    }
    add(TokenKind::integer, fmt::format("{}", number));
    take(bytes);
  }

  void read_text() {
    const char quote = rest_[0];
    std::size_t end = 1;
    while (end < rest_.size() && rest_[end] != quote) end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) fail("a text is not ended; close its quotation marks");
    add(TokenKind::text, unescaped(rest_.substr(1, end - 1)));
    take(end + 1);
  }

  /// Python's escapes.
  std::string unescaped(std::string_view text) const {
    std::string out;
    while (!text.empty()) {
      const std::size_t mark = std::min(text.find('\\'), text.size());
      out += text.substr(0, mark);
      text.remove_prefix(mark);
      if (text.empty()) break;
      const char letter = text[1];
      constexpr std::string_view kLetters = "\\'\"abfnrtv";
      constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
      const std::size_t place = kLetters.find(letter);
      if (place != std::string_view::npos) {
        out += kMeanings[place];
        text.remove_prefix(2);
      } else if (letter == '\n') {
        text.remove_prefix(2);
      } else if (letter == 'x' || letter == 'u' || letter == 'U') {
        const std::size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
        add_code(out, text.substr(2, digits), 16, digits);
        text.remove_prefix(std::min(2 + digits, text.size()));
      } else if (letter >= '0' && letter <= '7') {
        const std::string_view code = text.substr(1, 3);
        const std::size_t digits = std::min(code.find_first_not_of("01234567"), code.size());
        add_code(out, code.substr(0, digits), 8, digits);
        text.remove_prefix(1 + digits);
      } else if (letter == 'N') {
        fail("the escape \\N is not supported; write the character itself");
      } else {
        out += text.substr(0, 2);  // Python keeps what it does not know
        text.remove_prefix(2);
      }
    }
    return out;
  }

  void add_code(std::string& out, std::string_view digits, int base, std::size_t wanted) const {
    std::uint32_t code = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, code, base);
    const bool is_character = code < 0xD800 || (code >= 0xE000 && code <= 0x10FFFF);
    if (error != std::errc() || stop != end || digits.size() != wanted || !is_character) {
      fail(fmt::format("the escape with the digits '{}' is no character", digits));
    }
    append(out, code);
  }

  const std::string& where_;
  const std::string source_;
  std::string_view rest_;
  int line_ = 1;
  bool line_begins_ = true;  // what was read last ended a line
  std::string brackets_;     // open ones
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> read_tokens(std::string_view source, const std::string& where) {
  return Lexer(source, where).read();
}

std::string name_of(const Token& token) {
  switch (token.kind) {
    case TokenKind::data:
      return "text";
    case TokenKind::variable_begin:
      return "'{{'";
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::end:
      return "the end of the template";
    case TokenKind::text:
      return "a text";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace sluice::launcher::jinja
