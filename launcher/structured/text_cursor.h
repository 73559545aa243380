// A place in a pattern or grammar that is being read, character by character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// Over valid UTF-8, which must outlive it.
class TextCursor {
 public:
  explicit TextCursor(std::string_view text) : text_(text) {}

  bool at_end() const { return at_ >= text_.size(); }
  std::size_t place() const { return at_; }
  /// The byte here, or `ahead` bytes further; '\0' behind the end.
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool starts(std::string_view expected) const { return text_.substr(at_).starts_with(expected); }
  /// Goes on behind `expected` if it is here.
  bool take(std::string_view expected);
  /// The character here. Pre: not at the end.
  char32_t next();
  /// The name here: letters, digits, '_' and '-'. Empty: there is none.
  std::string_view take_name();
  /// The decimal number here, of at most `most`; nothing if there is no digit.
  std::optional<std::int64_t> take_number(std::int64_t most);
  /// So many hexadecimal digits. Throws GrammarProblem where there are fewer.
  char32_t take_hex(int digits);

  /// Throws GrammarProblem: "the regex has ... at character 7; ...".
  [[noreturn]] void fail(const std::string& what) const;
  /// What messages call the text: "regex".
  void call_it(std::string name) { name_ = std::move(name); }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  std::string name_ = "text";
};

}  // namespace sluice::launcher
