#include "launcher/tokenizer/character_kinds.h"

#include "launcher/tokenizer/regex.h"

namespace sluice::launcher {

const CharacterKinds& CharacterKinds::get() {
  static const CharacterKinds kinds;
  return kinds;
}

CharacterKinds::CharacterKinds() : kinds_(0x110000) {
  const auto add = [this](const CharacterSet& set, Kind kind) {
    set.each([&](char32_t character) { kinds_[character] |= kind; });
  };
  add(letters(), kLetter);
  add(marks(), kMark);
  add(numbers(), kNumber);
  add(CharacterSet({"P", "S"}), kSign);
  add(CharacterSet({"Lu", "Lt", "Lm", "Lo", "M"}), kBegins);
  add(CharacterSet({"Ll", "Lm", "Lo", "M"}), kEnds);
  add(white_space(), kBlank);
  for (const char32_t line_break : {U'\r', U'\n'}) kinds_[line_break] = kBreak;
}

std::size_t CharacterKinds::blanks_end(std::string_view text) const {
  std::size_t end = 0;
  std::size_t last = 0;  // begin of the last character
  std::size_t bytes = 0;
  while (end < text.size() && (at(text, end, bytes) & kSpace) != 0) {
    last = end;
    end += bytes;
  }
  return end == text.size() || last == 0 ? end : last;
}

std::size_t CharacterKinds::breaks_end(std::string_view text) const {
  std::size_t end = 0;
  std::size_t bytes = 0;
  for (std::size_t at = 0; at < text.size(); at += bytes) {
    const Kind kind = this->at(text, at, bytes);
    if ((kind & kSpace) == 0) break;
    if (kind == kBreak) end = at + bytes;
  }
  return end;
}

}  // namespace sluice::launcher
