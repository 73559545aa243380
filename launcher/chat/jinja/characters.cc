#include "launcher/chat/jinja/characters.h"

#include <locale.h>
#include <string.h>
#include <wctype.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

/// Characters whose upper case is several, and that upper case (Unicode's SpecialCasing.txt). Every
/// other mapping is one to one, and glibc has it.
constexpr std::u32string_view kLongUpper[] = {U"\u00DFSS",
                                              U"\u0149\u02BCN",
                                              U"\u01F0J\u030C",
                                              U"\u0390\u0399\u0308\u0301",
                                              U"\u03B0\u03A5\u0308\u0301",
                                              U"\u0587\u0535\u0552",
                                              U"\u1E96H\u0331",
                                              U"\u1E97T\u0308",
                                              U"\u1E98W\u030A",
                                              U"\u1E99Y\u030A",
                                              U"\u1E9AA\u02BE",
                                              U"\u1F50\u03A5\u0313",
                                              U"\u1F52\u03A5\u0313\u0300",
                                              U"\u1F54\u03A5\u0313\u0301",
                                              U"\u1F56\u03A5\u0313\u0342",
                                              U"\u1F80\u1F08\u0399",
                                              U"\u1F81\u1F09\u0399",
                                              U"\u1F82\u1F0A\u0399",
                                              U"\u1F83\u1F0B\u0399",
                                              U"\u1F84\u1F0C\u0399",
                                              U"\u1F85\u1F0D\u0399",
                                              U"\u1F86\u1F0E\u0399",
                                              U"\u1F87\u1F0F\u0399",
                                              U"\u1F88\u1F08\u0399",
                                              U"\u1F89\u1F09\u0399",
                                              U"\u1F8A\u1F0A\u0399",
                                              U"\u1F8B\u1F0B\u0399",
                                              U"\u1F8C\u1F0C\u0399",
                                              U"\u1F8D\u1F0D\u0399",
                                              U"\u1F8E\u1F0E\u0399",
                                              U"\u1F8F\u1F0F\u0399",
                                              U"\u1F90\u1F28\u0399",
                                              U"\u1F91\u1F29\u0399",
                                              U"\u1F92\u1F2A\u0399",
                                              U"\u1F93\u1F2B\u0399",
                                              U"\u1F94\u1F2C\u0399",
                                              U"\u1F95\u1F2D\u0399",
                                              U"\u1F96\u1F2E\u0399",
                                              U"\u1F97\u1F2F\u0399",
                                              U"\u1F98\u1F28\u0399",
                                              U"\u1F99\u1F29\u0399",
                                              U"\u1F9A\u1F2A\u0399",
                                              U"\u1F9B\u1F2B\u0399",
                                              U"\u1F9C\u1F2C\u0399",
                                              U"\u1F9D\u1F2D\u0399",
                                              U"\u1F9E\u1F2E\u0399",
                                              U"\u1F9F\u1F2F\u0399",
                                              U"\u1FA0\u1F68\u0399",
                                              U"\u1FA1\u1F69\u0399",
                                              U"\u1FA2\u1F6A\u0399",
                                              U"\u1FA3\u1F6B\u0399",
                                              U"\u1FA4\u1F6C\u0399",
                                              U"\u1FA5\u1F6D\u0399",
                                              U"\u1FA6\u1F6E\u0399",
                                              U"\u1FA7\u1F6F\u0399",
                                              U"\u1FA8\u1F68\u0399",
                                              U"\u1FA9\u1F69\u0399",
                                              U"\u1FAA\u1F6A\u0399",
                                              U"\u1FAB\u1F6B\u0399",
                                              U"\u1FAC\u1F6C\u0399",
                                              U"\u1FAD\u1F6D\u0399",
                                              U"\u1FAE\u1F6E\u0399",
                                              U"\u1FAF\u1F6F\u0399",
                                              U"\u1FB2\u1FBA\u0399",
                                              U"\u1FB3\u0391\u0399",
                                              U"\u1FB4\u0386\u0399",
                                              U"\u1FB6\u0391\u0342",
                                              U"\u1FB7\u0391\u0342\u0399",
                                              U"\u1FBC\u0391\u0399",
                                              U"\u1FC2\u1FCA\u0399",
                                              U"\u1FC3\u0397\u0399",
                                              U"\u1FC4\u0389\u0399",
                                              U"\u1FC6\u0397\u0342",
                                              U"\u1FC7\u0397\u0342\u0399",
                                              U"\u1FCC\u0397\u0399",
                                              U"\u1FD2\u0399\u0308\u0300",
                                              U"\u1FD3\u0399\u0308\u0301",
                                              U"\u1FD6\u0399\u0342",
                                              U"\u1FD7\u0399\u0308\u0342",
                                              U"\u1FE2\u03A5\u0308\u0300",
                                              U"\u1FE3\u03A5\u0308\u0301",
                                              U"\u1FE4\u03A1\u0313",
                                              U"\u1FE6\u03A5\u0342",
                                              U"\u1FE7\u03A5\u0308\u0342",
                                              U"\u1FF2\u1FFA\u0399",
                                              U"\u1FF3\u03A9\u0399",
                                              U"\u1FF4\u038F\u0399",
                                              U"\u1FF6\u03A9\u0342",
                                              U"\u1FF7\u03A9\u0342\u0399",
                                              U"\u1FFC\u03A9\u0399",
                                              U"\uFB00FF",
                                              U"\uFB01FI",
                                              U"\uFB02FL",
                                              U"\uFB03FFI",
                                              U"\uFB04FFL",
                                              U"\uFB05ST",
                                              U"\uFB06ST",
                                              U"\uFB13\u0544\u0546",
                                              U"\uFB14\u0544\u0535",
                                              U"\uFB15\u0544\u053B",
                                              U"\uFB16\u054E\u0546",
                                              U"\uFB17\u0544\u053D"};

struct Range {
  char32_t first, last;
};

constexpr Range kUnprintable[] = {
    {0x00, 0x1F},       {0x7F, 0xA0},       {0xAD, 0xAD},       {0x600, 0x605},
    {0x61C, 0x61C},     {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},
    {0x8E2, 0x8E2},     {0x1680, 0x1680},   {0x180E, 0x180E},   {0x2000, 0x200F},
    {0x2028, 0x202F},   {0x205F, 0x206F},   {0x3000, 0x3000},   {0xE000, 0xF8FF},
    {0xFEFF, 0xFEFF},   {0xFFF9, 0xFFFB},   {0x110BD, 0x110BD}, {0x110CD, 0x110CD},
    {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0001, 0xE007F},
    {0xF0000, 0x10FFFF}};

constexpr Range kDigits[] = {{'0', '9'},     {0x660, 0x669}, {0x6F0, 0x6F9},   {0x966, 0x96F},
                             {0x9E6, 0x9EF}, {0xE50, 0xE59}, {0xFF10, 0xFF19}, {0x1D7CE, 0x1D7FF}};

bool is_in(const auto& ranges, char32_t character) {
  return std::ranges::any_of(ranges, [&](const Range& range) {
    return character >= range.first && character <= range.last;
  });
}

locale_t unicode() {
  static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (locale == nullptr) {
    throw InputError(
        "this system has no locale C.UTF-8, which knows upper and lower case; install it");
  }
  return locale;
}

bool is_ascii(char32_t character) { return character < 0x80; }

char32_t simple_upper(char32_t character) {
  if (is_ascii(character)) {
    return character >= 'a' && character <= 'z' ? character - 32 : character;
  }
  return static_cast<char32_t>(::towupper_l(static_cast<wint_t>(character), unicode()));
}

char32_t simple_lower(char32_t character) {
  if (is_ascii(character)) {
    return character >= 'A' && character <= 'Z' ? character + 32 : character;
  }
  return static_cast<char32_t>(::towlower_l(static_cast<wint_t>(character), unicode()));
}

/// Digraphs such as ǆ, which have a form with only the first letter large.
bool is_digraph(char32_t character) {
  return (character >= 0x1C4 && character <= 0x1CC) || (character >= 0x1F1 && character <= 0x1F3);
}

bool is_titled_digraph(char32_t character) {
  return character == 0x1C5 || character == 0x1C8 || character == 0x1CB || character == 0x1F2;
}

bool is_cased(char32_t character) {
  return is_upper(character) || is_lower(character) || is_titled_digraph(character);
}

const std::u32string_view* long_upper(char32_t character) {
  if (is_ascii(character)) return nullptr;
  const auto* found = std::ranges::find_if(
      kLongUpper, [&](std::u32string_view entry) { return entry[0] == character; });
  return found == std::end(kLongUpper) ? nullptr : found;
}

void add_upper(std::u32string& out, char32_t character) {
  if (const std::u32string_view* entry = long_upper(character)) {
    out += entry->substr(1);
  } else {
    out += simple_upper(character);
  }
}

void add_title(std::u32string& out, char32_t character) {
  const bool is_georgian = character >= 0x10D0 && character <= 0x10FF;
  const bool has_iota = character >= 0x1F80 && character <= 0x1FFC;
  if (is_georgian) {
    out += character;
  } else if (is_digraph(character)) {
    const char32_t first = character >= 0x1F1 ? 0x1F1 : character - (character - 0x1C4) % 3;
    out += first + 1;
  } else if (const std::u32string_view* entry = long_upper(character); entry && !has_iota) {
    // The first letter is large: behind an apostrophe, as in ŉ, that is the second character.
    const std::size_t large = (*entry)[1] == 0x2BC ? 3 : 2;
    out += entry->substr(1, large - 1);
    for (const char32_t more : entry->substr(large)) out += simple_lower(more);
  } else {
    out += simple_upper(character);
  }
}

/// The letter at `at` of `text`; a sigma that ends a word has a form of its own.
void add_lower(std::u32string& out, std::u32string_view text, std::size_t at) {
  constexpr char32_t kSigma = 0x3A3;
  if (text[at] == 0x130) {
    out += U"i\u0307";
  } else if (text[at] == kSigma) {
    const bool behind = at > 0 && is_cased(text[at - 1]);
    const bool before = at + 1 < text.size() && is_cased(text[at + 1]);
    out += behind && !before ? char32_t{0x3C2} : char32_t{0x3C3};
  } else {
    out += simple_lower(text[at]);
  }
}

/// `change(out, text, place)` for every character.
template <class Change>
std::string changed(std::string_view bytes, Change change) {
  const std::u32string text = decode(bytes);
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size(); ++at) change(out, text, at);
  return encode(out);
}

}  // namespace

std::size_t character_bytes(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

std::size_t byte_of(const Text& text, std::size_t index) {
  if (text.is_ascii()) return index;
  std::size_t at = 0;
  for (std::size_t i = 0; i < index; ++i) at += character_bytes(text.bytes, at);
  return at;
}

std::u32string decode(std::string_view text) {
  std::u32string characters;
  characters.reserve(text.size());
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text, at)) {
    characters += first_character(text.substr(at));
  }
  return characters;
}

void append(std::string& text, char32_t character) { append_character(text, character); }

std::string encode(std::u32string_view characters) {
  std::string text;
  for (const char32_t character : characters) append_character(text, character);
  return text;
}

std::size_t find_bytes(std::string_view text, std::string_view wanted) {
  if (wanted.empty()) return 0;
  // glibc's memmem is linear; std::string_view::find() takes the product of the lengths at worst.
  const void* found = ::memmem(text.data(), text.size(), wanted.data(), wanted.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

bool is_space(char32_t character) {
  return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

std::string_view strip(std::string_view text, const std::string* chars, Side side) {
  const std::u32string set = chars != nullptr ? decode(*chars) : std::u32string();
  const auto goes = [&](std::string_view part) {
    const char32_t character = first_character(part);
    return chars != nullptr ? set.find(character) != std::u32string::npos : is_space(character);
  };
  while (side != Side::right && !text.empty() && goes(text)) {
    text.remove_prefix(character_bytes(text, 0));
  }
  while (side != Side::left && !text.empty()) {
    const std::string_view last = last_part(text);
    if (!goes(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t character = first_character(text.substr(at));
    std::size_t size = character_bytes(text, at);
    const bool ends = (character >= 0x0A && character <= 0x0D) ||
                      (character >= 0x1C && character <= 0x1E) || character == 0x85 ||
                      character == 0x2028 || character == 0x2029;
    if (ends) {
      if (character == '\r' && text.substr(at + 1).starts_with('\n')) ++size;
      lines.push_back(text.substr(begin, at - begin + (keep_ends ? size : 0)));
      begin = at + size;
    }
    at += size;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string upper(std::string_view text) {
  return changed(text, [](std::u32string& out, std::u32string_view all, std::size_t at) {
    add_upper(out, all[at]);
  });
}

std::string lower(std::string_view text) { return changed(text, add_lower); }

std::string capitalize(std::string_view text) {
  return changed(text, [](std::u32string& out, std::u32string_view all, std::size_t at) {
    if (at == 0) {
      add_title(out, all[at]);
    } else {
      add_lower(out, all, at);
    }
  });
}

std::string title(std::string_view text) {
  return changed(text, [](std::u32string& out, std::u32string_view all, std::size_t at) {
    if (at > 0 && is_cased(all[at - 1])) {
      add_lower(out, all, at);
    } else {
      add_title(out, all[at]);
    }
  });
}

std::string swap_case(std::string_view text) {
  return changed(text, [](std::u32string& out, std::u32string_view all, std::size_t at) {
    if (is_upper(all[at])) {
      add_lower(out, all, at);
    } else if (is_lower(all[at])) {
      add_upper(out, all[at]);
    } else {
      out += all[at];
    }
  });
}

bool is_upper(char32_t character) {
  if (is_ascii(character)) return character >= 'A' && character <= 'Z';
  const bool has_iota = long_upper(character) != nullptr;  // such capitals are title case
  return !has_iota && !is_titled_digraph(character) &&
         ::iswupper_l(static_cast<wint_t>(character), unicode()) != 0;
}

bool is_lower(char32_t character) {
  if (is_ascii(character)) return character >= 'a' && character <= 'z';
  return !is_titled_digraph(character) &&
         ::iswlower_l(static_cast<wint_t>(character), unicode()) != 0;
}

bool is_letter(char32_t character) {
  if (is_ascii(character)) return is_upper(character) || is_lower(character);
  return !is_digit(character) && ::iswalpha_l(static_cast<wint_t>(character), unicode()) != 0;
}

bool is_digit(char32_t character) { return is_in(kDigits, character); }

bool is_printable(char32_t character) {
  if (is_ascii(character)) return character >= 0x20 && character != 0x7F;
  return !is_in(kUnprintable, character) &&
         ::iswprint_l(static_cast<wint_t>(character), unicode()) != 0;
}

}  // namespace sluice::launcher::jinja
