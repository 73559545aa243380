#include "launcher/tokenizer/word_scanner.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

enum class Kind : std::uint8_t { sign, letter, number, blank, line_break };

constexpr bool is_space(Kind kind) { return kind == Kind::blank || kind == Kind::line_break; }

/// Llama 3's pattern, with `letters` for \p{L} and `digits` for \p{N}{1,3}.
std::string llama3_pattern(const std::string& letters, const std::string& digits) {
  const bool is_class = letters.size() > 5;
  const std::string set = is_class ? "[" + letters + "]" : letters;
  return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?)" + set + "+|" + digits + R"(| ?[^\s)" +
         letters + R"(\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

/// Bytes of a contraction such as 's behind the apostrophe that `text` begins with; 0: none.
std::size_t contraction(std::string_view text, bool any_case) {
  const auto at = [&](std::size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  switch (at(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return at(2) == 'e' ? 3 : 0;
    case 'l':
      return at(2) == 'l' ? 3 : 0;
    default:
      break;
  }
  constexpr std::string_view kLongS = "\xC5\xBF";  // whose capital is S
  return any_case && text.substr(1).starts_with(kLongS) ? 1 + kLongS.size() : 0;
}

}  // namespace

/// The kind of every character.
class WordScanner::Kinds {
 public:
  explicit Kinds(bool marks_are_letters) : kinds_(0x110000, Kind::sign) {
    for (char32_t c = 0; c < kinds_.size(); ++c) {
      if (letters().contains(c) || (marks_are_letters && marks().contains(c))) {
        kinds_[c] = Kind::letter;
      } else if (numbers().contains(c)) {
        kinds_[c] = Kind::number;
      } else if (c == '\r' || c == '\n') {
        kinds_[c] = Kind::line_break;
      } else if (is_white_space(c)) {
        kinds_[c] = Kind::blank;
      }
    }
  }

  /// The kind of the character at `at`, whose size becomes `bytes`. Pre: `at` is in the text.
  Kind at(std::string_view text, std::size_t at, std::size_t& bytes) const {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) {
      bytes = 1;
      return kinds_[lead];
    }
    bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t value = lead & (0xFFU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) {
      value = value << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3FU);
    }
    return kinds_[value];
  }

  /// Where a run of `kind` that has a character at or behind `at` ends; at most `most` characters.
  std::size_t run_end(std::string_view text, std::size_t at, Kind kind,
                      std::size_t most = SIZE_MAX) const {
    std::size_t bytes = 0;
    while (most-- > 0 && at < text.size() && this->at(text, at, bytes) == kind) at += bytes;
    return at;
  }

  /// The end of the word that a run of white space makes: all of it at the text's end, else all but
  /// its last character, which belongs to the next word, if it has more than one.
  std::size_t blanks_end(std::string_view text) const {
    std::size_t end = 0;
    std::size_t last = 0;  // begin of the last character
    std::size_t bytes = 0;
    while (end < text.size() && is_space(at(text, end, bytes))) {
      last = end;
      end += bytes;
    }
    return end == text.size() || last == 0 ? end : last;
  }

  /// Behind the last line break of the white space that `text` begins with; 0: it has none.
  std::size_t line_breaks_end(std::string_view text) const {
    std::size_t end = 0;
    std::size_t bytes = 0;
    for (std::size_t at = 0; at < text.size(); at += bytes) {
      const Kind kind = this->at(text, at, bytes);
      if (!is_space(kind)) break;
      if (kind == Kind::line_break) end = at + bytes;
    }
    return end;
  }

 private:
  std::vector<Kind> kinds_;
};

WordScanner::WordScanner(std::shared_ptr<const Kinds> kinds) : kinds_(std::move(kinds)) {}

std::optional<WordScanner> WordScanner::of(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return WordScanner(std::make_shared<const Kinds>(false));
  for (const bool marks : {false, true}) {
    for (const std::size_t digits : {1U, 3U}) {
      const std::string wanted = llama3_pattern(marks ? R"(\p{L}\p{M})" : R"(\p{L})",
                                                digits == 1 ? R"(\p{N})" : R"(\p{N}{1,3})");
      if (pattern != wanted) continue;
      WordScanner scanner(std::make_shared<const Kinds>(marks));
      scanner.is_gpt2_ = false;
      scanner.most_digits_ = digits;
      return scanner;
    }
  }
  return std::nullopt;
}

std::size_t WordScanner::word_bytes(std::string_view text) const {
  return is_gpt2_ ? gpt2_word(text) : llama3_word(text);
}

std::size_t WordScanner::gpt2_word(std::string_view text) const {
  if (text[0] == '\'') {
    if (const std::size_t bytes = contraction(text, false)) return bytes;
  }
  std::size_t bytes = 0;
  Kind kind = kinds_->at(text, 0, bytes);
  std::size_t begin = 0;
  if (text[0] == ' ' && text.size() > 1) {
    kind = kinds_->at(text, 1, bytes);
    begin = 1;
  }
  if (!is_space(kind)) return kinds_->run_end(text, begin + bytes, kind);
  return kinds_->blanks_end(text);
}

std::size_t WordScanner::llama3_word(std::string_view text) const {
  if (text[0] == '\'') {
    if (const std::size_t bytes = contraction(text, true)) return bytes;
  }
  std::size_t bytes = 0;
  const Kind kind = kinds_->at(text, 0, bytes);
  if (kind == Kind::letter) return kinds_->run_end(text, bytes, Kind::letter);
  if (kind == Kind::number) return kinds_->run_end(text, bytes, Kind::number, most_digits_ - 1);
  std::size_t more = 0;
  const Kind next = bytes < text.size() ? kinds_->at(text, bytes, more) : Kind::blank;
  if (kind != Kind::line_break && next == Kind::letter && bytes < text.size()) {
    return kinds_->run_end(text, bytes + more, Kind::letter);
  }
  const bool signs_follow = text[0] == ' ' && bytes < text.size() && next == Kind::sign;
  if (kind == Kind::sign || signs_follow) {
    return kinds_->run_end(text, kinds_->run_end(text, bytes, Kind::sign), Kind::line_break);
  }
  const std::size_t lines = kinds_->line_breaks_end(text);
  return lines > 0 ? lines : kinds_->blanks_end(text);
}

}  // namespace sluice::launcher
