#include "launcher/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <vector>

#include "launcher/tokenizer/newer_unicode.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr utf8proc_int32_t kPlain = 0x80;            // ASCII is in every normal form
constexpr utf8proc_int32_t kLastChanging = 0x30000;  // planes above it have no decompositions

constexpr bool composes(NormalForm form) {
  return form == NormalForm::nfc || form == NormalForm::nfkc;
}

utf8proc_option_t options_of(NormalForm form) {
  int options = UTF8PROC_STABLE;
  options |= composes(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  return static_cast<utf8proc_option_t>(options);
}

bool is_surrogate(utf8proc_int32_t character) { return character >= 0xD800 && character < 0xE000; }

struct Free {
  void operator()(utf8proc_uint8_t* bytes) const noexcept { std::free(bytes); }
};

/// Pre: valid UTF-8, without NUL.
std::string mapped(std::string_view text, utf8proc_option_t options) {
  utf8proc_uint8_t* bytes = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &bytes, options);
  const std::unique_ptr<utf8proc_uint8_t, Free> owner(bytes);
  if (size < 0) throw std::bad_alloc();  // nothing else is wrong with valid UTF-8
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)};
}

}  // namespace

/// The characters that neither change nor join with the one before them: a text may be cut in front
/// of each, and its parts normalized one by one.
class UnicodeNormalizer::Table {
 public:
  explicit Table(NormalForm form) : inert_(0x110000, true) {
    for (const auto& [from, to] : kOutsideNormalForms) {
      for (char32_t c = from; c <= to; ++c) outside_[c] = true;
    }
    for (utf8proc_int32_t c = kPlain; c < kLastChanging; ++c) {
      if (is_surrogate(c)) continue;
      const bool compatible = (options_of(form) & UTF8PROC_COMPAT) != 0;
      const bool changes = !is_itself(decomposed(c, compatible), c);
      if (changes && !(composes(form) && comes_back(c, form))) inert_[at(c)] = false;
      if (utf8proc_get_property(c)->combining_class != 0) inert_[at(c)] = false;
      if (!composes(form)) continue;
      // What comes second in a pair may be taken in by the character before it.
      const std::span<const utf8proc_int32_t> parts = decomposed(c, false);
      for (std::size_t i = 1; i < parts.size(); ++i) inert_[at(parts[i])] = false;
    }
  }

  bool is_inert(char32_t character) const { return inert_[character] || is_outside(character); }
  /// Hugging Face's tables do not have it: it stays, and nothing joins with it.
  bool is_outside(char32_t character) const { return outside_[character]; }

 private:
  static std::size_t at(utf8proc_int32_t index) { return static_cast<std::size_t>(index); }
  static bool is_itself(std::span<const utf8proc_int32_t> parts, utf8proc_int32_t c) {
    return parts.size() == 1 && parts[0] == c;
  }
  /// Valid until the next call.
  std::span<const utf8proc_int32_t> decomposed(utf8proc_int32_t c, bool compatible) {
    const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(c, parts_.data(), static_cast<utf8proc_ssize_t>(parts_.size()),
                                static_cast<utf8proc_option_t>(options), nullptr);
    return {parts_.data(), static_cast<std::size_t>(count)};
  }
  /// Whether decomposing and composing gives the character itself again.
  static bool comes_back(utf8proc_int32_t c, NormalForm form) {
    std::string text;
    append_character(text, static_cast<char32_t>(c));
    return mapped(text, options_of(form)) == text;
  }

  std::vector<bool> inert_;
  std::vector<bool> outside_ = std::vector<bool>(0x110000);
  std::array<utf8proc_int32_t, 32> parts_ = {};
};

UnicodeNormalizer::UnicodeNormalizer(NormalForm form) : form_(form), table_(table_of(form)) {}

/// Made once in a process: it takes a look at every character.
const UnicodeNormalizer::Table& UnicodeNormalizer::table_of(NormalForm form) {
  static std::mutex mutex;
  static std::array<std::unique_ptr<const Table>, 4> tables;
  const std::lock_guard lock(mutex);
  auto& table = tables.at(static_cast<std::size_t>(form));
  if (!table) table = std::make_unique<const Table>(form);
  return *table;
}

void UnicodeNormalizer::apply(std::string& text) const {
  std::string made;
  std::size_t copied = 0;  // text[0, copied) is in `made`
  std::size_t last = 0;    // the last inert character so far begins here
  const std::string_view all = text;
  for (std::size_t at = 0; at < all.size();) {
    if (static_cast<unsigned char>(all[at]) < kPlain) {
      last = at++;
      continue;
    }
    const auto character = first_character(all.substr(at));
    const std::size_t bytes = first_part(all.substr(at)).bytes;
    if (table_.is_inert(character)) {
      last = table_.is_outside(character) ? at + bytes : at;
      at += bytes;
      continue;
    }
    const std::size_t begin = std::max(last, copied);
    std::size_t end = at + bytes;
    while (end < all.size() && !table_.is_inert(first_character(all.substr(end)))) {
      end += first_part(all.substr(end)).bytes;
    }
    made.append(all, copied, begin - copied);
    made += mapped(all.substr(begin, end - begin), options_of(form_));
    at = copied = last = end;
  }
  if (copied == 0) return;
  made.append(all, copied);
  text = std::move(made);
}

namespace {

/// utf8proc 2.8 knows the letters of Unicode 15; some of Unicode 16 and 17 have small forms.
char32_t small_letter(char32_t character) {
  switch (character) {
    case 0x1C89:
    case 0xA7CC:
    case 0xA7CE:
    case 0xA7D2:
    case 0xA7D4:
    case 0xA7DA:
      return character + 1;
    case 0xA7CB:
      return 0x264;
    case 0xA7DC:
      return 0x19B;
    default:
      break;
  }
  if (character >= 0x10D50 && character <= 0x10D65) return character + 0x20;
  if (character >= 0x16EA0 && character <= 0x16EB8) return character + 0x1B;
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character)));
}

}  // namespace

std::string lower_case(std::string_view text) {
  constexpr char32_t kDottedI = 0x130;  // the one character that becomes two
  std::string lower;
  lower.reserve(text.size());
  while (!text.empty()) {
    const char32_t character = first_character(text);
    if (character == kDottedI) {
      lower += "i\xCC\x87";
    } else {
      append_character(lower, small_letter(character));
    }
    text.remove_prefix(first_part(text).bytes);
  }
  return lower;
}

}  // namespace sluice::launcher
