#include "launcher/tokenizer/word_scanner.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "launcher/tokenizer/character_kinds.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr const char* kAnyCaseContractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr const char* kBlanksPattern = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kNumbersPattern = R"(\p{N}{1,3})";
constexpr std::string_view kCjkPattern = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+";
constexpr std::string_view kDeepSeekPattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloomPattern =
    " ?[^(\\s|[.,!?\u2026\u3002\uFF0C\u3001\u0964\u06D4\u060C])]+";

/// Llama 3's, with `letters` for \p{L} and `digits` for \p{N}{1,3}.
std::string llama3_pattern(const std::string& letters, const std::string& digits) {
  const bool is_class = letters.size() > 5;
  const std::string set = is_class ? "[" + letters + "]" : letters;
  return kAnyCaseContractions + (R"(|[^\r\n\p{L}\p{N}]?)" + set) + "+|" + digits + R"(| ?[^\s)" +
         letters + R"(\p{N}]+[\r\n]*)" + kBlanksPattern;
}

/// o200k's, with `contractions` behind words and `digits` for \p{N}{1,3}.
std::string o200k_pattern(const std::string& contractions, const std::string& digits) {
  const std::string sign = R"([^\r\n\p{L}\p{N}]?)";
  const std::string begin = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
  const std::string end = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  return sign + begin + "*" + end + "+" + contractions + "|" + sign + begin + "+" + end + "*" +
         contractions + "|" + digits + R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*)" + kBlanksPattern;
}

/// Bytes of a contraction such as 's, with its apostrophe, that `text` begins with; 0: none.
std::size_t contraction(std::string_view text, bool any_case) {
  if (!text.starts_with('\'')) return 0;
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

class Scanner : public WordScanner {
 protected:
  /// Of the character at `at`. Behind the end it is kBreak: no word goes on there either.
  Kind kind_at(std::string_view text, std::size_t at, std::size_t& bytes) const {
    return at < text.size() ? kinds_.at(text, at, bytes) : kBreak;
  }
  std::size_t blanks(std::string_view text) const {
    const std::size_t breaks = kinds_.breaks_end(text);
    return breaks > 0 ? breaks : kinds_.blanks_end(text);
  }

  const CharacterKinds& kinds_ = CharacterKinds::get();
};

class Gpt2Words final : public Scanner {
 public:
  std::size_t word_bytes(std::string_view text) const override {
    if (const std::size_t bytes = contraction(text, false)) return bytes;
    const std::size_t begin = text[0] == ' ' && text.size() > 1 ? 1 : 0;
    std::size_t bytes = 0;
    const Kind kind = kinds_.at(text, begin, bytes);
    if ((kind & kLetter) != 0) return kinds_.run_of(text, begin + bytes, kLetter);
    if ((kind & kNumber) != 0) return kinds_.run_of(text, begin + bytes, kNumber);
    if ((kind & kSpace) != 0) return kinds_.blanks_end(text);
    return kinds_.run_without(text, begin + bytes, kLetter | kNumber | kSpace);
  }
};

class Llama3Words final : public Scanner {
 public:
  /// `most_digits`: in one word.
  Llama3Words(Kind letters, std::size_t most_digits)
      : letters_(letters), most_digits_(most_digits) {}

  std::size_t word_bytes(std::string_view text) const override {
    if (const std::size_t bytes = contraction(text, true)) return bytes;
    std::size_t bytes = 0;
    std::size_t more = 0;
    const Kind kind = kinds_.at(text, 0, bytes);
    if ((kind & letters_) != 0) return kinds_.run_of(text, bytes, letters_);
    if ((kind & kNumber) != 0) return kinds_.run_of(text, bytes, kNumber, most_digits_ - 1);
    const Kind next = kind_at(text, bytes, more);
    if (kind != kBreak && (next & letters_) != 0) {
      return kinds_.run_of(text, bytes + more, letters_);
    }
    const Kind no_signs = letters_ | kNumber | kSpace;
    if ((kind & no_signs) == 0 || (text[0] == ' ' && (next & no_signs) == 0)) {
      return kinds_.run_of(text, kinds_.run_without(text, bytes, no_signs), kBreak);
    }
    return blanks(text);
  }

 private:
  Kind letters_;
  std::size_t most_digits_;
};

class O200kWords final : public Scanner {
 public:
  O200kWords(bool contractions, std::size_t most_digits)
      : contractions_(contractions), most_digits_(most_digits) {}

  std::size_t word_bytes(std::string_view text) const override {
    std::size_t bytes = 0;
    const Kind kind = kinds_.at(text, 0, bytes);
    if ((kind & kNumber) != 0) return kinds_.run_of(text, bytes, kNumber, most_digits_ - 1);
    if (const std::size_t end = letters_end(text, kind, bytes)) {
      return end + (contractions_ ? contraction(text.substr(end), true) : 0);
    }
    std::size_t more = 0;
    if ((kind & kNoSigns) == 0 ||
        (text[0] == ' ' && (kind_at(text, bytes, more) & kNoSigns) == 0)) {
      return slashes_end(text, kinds_.run_without(text, bytes, kNoSigns));
    }
    return blanks(text);
  }

 private:
  static constexpr Kind kNoSigns = kLetter | kNumber | kSpace;

  /// The end of the letters that `text` begins with, or that come behind its first character; 0:
  /// there are none. `kind` and `bytes`: of that character.
  std::size_t letters_end(std::string_view text, Kind kind, std::size_t bytes) const {
    if ((kind & kLetter) != 0) return cased_end(text, 0);
    if (kind == kBreak) return 0;
    const std::size_t end = cased_end(text, bytes);
    // A mark may be the sign in front of a word, or a letter of it. It is a word of its own where
    // only capitals follow: the pattern's first alternative takes it before the second is tried.
    if ((kind & kMark) != 0) return ends_small(text, bytes, end) ? end : bytes;
    return end > bytes ? end : 0;
  }

  /// [begin]*[end]+ from `at` on, or else [begin]+[end]*; `at` where neither matches.
  std::size_t cased_end(std::string_view text, std::size_t at) const {
    std::size_t bytes = 0;
    std::size_t last = at;  // behind the last character of the run that may end a word, too
    std::size_t end = at;
    for (Kind kind = 0; end < text.size(); end += bytes) {
      kind = kinds_.at(text, end, bytes);
      if ((kind & kBegins) == 0) {
        if ((kind & kEnds) != 0) return kinds_.run_of(text, end + bytes, kEnds);
        break;
      }
      if ((kind & kEnds) != 0) last = end + bytes;
    }
    return last > at ? last : end;
  }

  /// Whether text[at, end), of cased_end(), has a character that is no capital.
  bool ends_small(std::string_view text, std::size_t at, std::size_t end) const {
    std::size_t bytes = 0;
    for (; at < end; at += bytes) {
      if ((kinds_.at(text, at, bytes) & kEnds) != 0) return true;
    }
    return false;
  }

  static std::size_t slashes_end(std::string_view text, std::size_t at) {
    return std::min(text.find_first_not_of("\r\n/", at), text.size());
  }

  bool contractions_;
  std::size_t most_digits_;
};

class DeepSeekWords final : public Scanner {
 public:
  std::size_t word_bytes(std::string_view text) const override {
    std::size_t bytes = 0;
    for (std::size_t at = 0; at < text.size(); at += bytes) {
      if (const std::size_t matched = match(text.substr(at))) return at == 0 ? matched : at;
      kinds_.at(text, at, bytes);
    }
    return text.size();
  }

 private:
  static constexpr Kind kLetters = kLetter | kMark;

  static bool is_ascii_letter(std::string_view text, std::size_t at) {
    return at < text.size() &&
           ((text[at] >= 'a' && text[at] <= 'z') || (text[at] >= 'A' && text[at] <= 'Z'));
  }

  /// Bytes of the match that `text` begins with; 0: it begins with none.
  std::size_t match(std::string_view text) const {
    std::size_t bytes = 0;
    std::size_t more = 0;
    const Kind kind = kinds_.at(text, 0, bytes);
    if ((kind & kLetters) != 0) return kinds_.run_of(text, bytes, kLetters);
    if ((kind & kSign) != 0) {
      if (bytes == 1 && is_ascii_letter(text, 1)) {
        std::size_t end = 2;
        while (is_ascii_letter(text, end)) ++end;
        return end;
      }
      return signs_end(text, bytes);
    }
    const Kind next = kind_at(text, bytes, more);
    if (kind != kBreak && (next & kLetters) != 0) {
      return kinds_.run_of(text, bytes + more, kLetters);
    }
    if (text[0] == ' ' && (next & kSign) != 0) return signs_end(text, bytes + more);
    return (kind & kSpace) != 0 ? blanks(text) : 0;
  }

  std::size_t signs_end(std::string_view text, std::size_t at) const {
    return kinds_.run_of(text, kinds_.run_of(text, at, kSign), kBreak);
  }
};

class NumberWords final : public Scanner {
 public:
  std::size_t word_bytes(std::string_view text) const override {
    const std::size_t end = kinds_.run_of(text, 0, kNumber, 3);
    return end > 0 ? end : kinds_.run_without(text, 0, kNumber);
  }
};

class CjkWords final : public WordScanner {
 public:
  std::size_t word_bytes(std::string_view text) const override {
    std::size_t bytes = 0;
    const bool wanted = is_cjk(character_at(text, 0, bytes));
    std::size_t end = bytes;
    while (end < text.size() && is_cjk(character_at(text, end, bytes)) == wanted) end += bytes;
    return end;
  }

 private:
  static bool is_cjk(char32_t character) {
    return (character >= 0x4E00 && character <= 0x9FA5) ||
           (character >= 0x3040 && character <= 0x30FF);
  }
};

class BloomWords final : public Scanner {
 public:
  BloomWords() {
    for (const char stop : std::string_view("()|.,!?"))
      stops_[static_cast<std::size_t>(stop)] = true;
  }

  std::size_t word_bytes(std::string_view text) const override {
    const std::size_t begin = text[0] == ' ' ? 1 : 0;
    const std::size_t end = letters_end(text, begin);
    if (end > begin) return end;
    // What is between words: up to a character of a word, or the blank before it.
    std::size_t at = 0;
    std::size_t bytes = 0;
    while (at < text.size() && is_stop(text, at, bytes)) at += bytes;
    return at < text.size() && at > 1 && text[at - 1] == ' ' ? at - 1 : at;
  }

 private:
  std::size_t letters_end(std::string_view text, std::size_t at) const {
    std::size_t bytes = 0;
    while (at < text.size() && !is_stop(text, at, bytes)) at += bytes;
    return at;
  }

  bool is_stop(std::string_view text, std::size_t at, std::size_t& bytes) const {
    if ((kinds_.at(text, at, bytes) & kSpace) != 0) return true;
    if (bytes == 1) return stops_[static_cast<std::size_t>(text[at])];
    constexpr std::array<std::string_view, 7> kStops = {"\u2026", "\u3002", "\uFF0C", "\u3001",
                                                        "\u0964", "\u06D4", "\u060C"};
    return std::ranges::find(kStops, text.substr(at, bytes)) != kStops.end();
  }

  std::array<bool, 128> stops_ = {};
};

}  // namespace

std::unique_ptr<const WordScanner> WordScanner::of(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return std::make_unique<Gpt2Words>();
  if (pattern == kNumbersPattern) return std::make_unique<NumberWords>();
  if (pattern == kCjkPattern) return std::make_unique<CjkWords>();
  if (pattern == kDeepSeekPattern) return std::make_unique<DeepSeekWords>();
  if (pattern == kBloomPattern) return std::make_unique<BloomWords>();
  for (const std::size_t digits : {1U, 3U}) {
    const std::string number = digits == 1 ? R"(\p{N})" : R"(\p{N}{1,3})";
    if (pattern == llama3_pattern(R"(\p{L})", number)) {
      return std::make_unique<Llama3Words>(kLetter, digits);
    }
    if (pattern == llama3_pattern(R"(\p{L}\p{M})", number)) {
      return std::make_unique<Llama3Words>(kLetter | kMark, digits);
    }
    if (pattern == o200k_pattern("", number)) return std::make_unique<O200kWords>(false, digits);
    if (pattern == o200k_pattern(std::string(kAnyCaseContractions) + "?", number)) {
      return std::make_unique<O200kWords>(true, digits);
    }
  }
  return nullptr;
}

}  // namespace sluice::launcher
