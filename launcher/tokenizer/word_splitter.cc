#include "launcher/tokenizer/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <limits>
#include <string>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

// Unicode's White_Space, spelled out: PCRE2's \s under UCP also takes U+180E, or leaves out U+0085,
// depending on its release.
constexpr const char* kBlank = R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680})"
                               R"(\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Letters and numbers that came with Unicode 15; PCRE2 10.42 knows those of Unicode 14. No older
// character changed sides.
constexpr const char* kLetter =
    R"(\p{L}\x{1123F}-\x{11240}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D})"
    R"(\x{1E4D0}-\x{1E4EB}\x{2B739}\x{31350}-\x{323AF})";
constexpr const char* kNumber = R"(\p{N}\x{11F50}-\x{11F59}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9})";

std::string words_pattern() {
  return fmt::format(
      "'s|'t|'re|'ve|'m|'ll|'d| ?[{1}]+| ?[{2}]+| ?[^{0}{1}{2}]+|[{0}]+(?![^{0}])|[{0}]+", kBlank,
      kLetter, kNumber);
}

std::string message_of(int code) {
  std::array<unsigned char, 256> text = {};
  if (pcre2_get_error_message(code, text.data(), text.size()) < 0) return fmt::to_string(code);
  return reinterpret_cast<const char*>(text.data());
}

struct PcreDeleter {
  void operator()(pcre2_code* code) const noexcept { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const noexcept { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const noexcept {
    pcre2_match_context_free(context);
  }
};
template <typename T>
using PcreHandle = std::unique_ptr<T, PcreDeleter>;

}  // namespace

class WordSplitter::Pattern {
 public:
  explicit Pattern(const std::string& pattern) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &code, &offset, nullptr));
    if (!code_) {
      throw Error(ExitStatus::failure,
                  fmt::format("PCRE2 refuses the tokenizer's pattern at offset "
                              "{}: {}",
                              offset, message_of(code)));
    }
    // Without executable memory PCRE2 interprets the pattern: slower, with the same words.
    static_cast<void>(pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE));
  }

  /// Calls `found` with each match, in order.
  void each(std::string_view text, const std::function<void(std::string_view)>& found) const {
    const PcreHandle<pcre2_match_data> data(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    const PcreHandle<pcre2_match_context> context(pcre2_match_context_create(nullptr));
    if (!data || !context) throw std::bad_alloc();
    // A long run of blanks is one match; no text can make this pattern backtrack by more than one.
    pcre2_set_match_limit(context.get(), std::numeric_limits<std::uint32_t>::max());
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    std::size_t at = 0;
    while (at < text.size()) {
      const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                    text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), context.get());
      if (count == PCRE2_ERROR_NOMATCH) return;
      if (count < 0) {
        throw Error(ExitStatus::failure,
                    fmt::format("PCRE2 cannot cut a text of {} bytes into words at byte {}: {}",
                                text.size(), at, message_of(count)));
      }
      found(text.substr(range[0], range[1] - range[0]));
      at = range[1];
    }
  }

 private:
  PcreHandle<pcre2_code> code_;
};

bool is_word_character(std::string_view text) {
  static const WordSplitter::Pattern kPattern(
      R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])");
  bool found = false;
  kPattern.each(text.substr(0, first_part(text).bytes), [&](std::string_view) { found = true; });
  return found;
}

WordSplitter::WordSplitter() : WordSplitter(Options()) {}
WordSplitter::WordSplitter(Options options)
    : removed_(std::move(options.removed)),
      words_(options.words ? std::make_unique<Pattern>(words_pattern()) : nullptr),
      digits_(options.single_digits ? std::make_unique<Pattern>(fmt::format("[{}]", kNumber))
                                    : nullptr) {}
WordSplitter::~WordSplitter() = default;
WordSplitter::WordSplitter(WordSplitter&&) noexcept = default;
WordSplitter& WordSplitter::operator=(WordSplitter&&) noexcept = default;

void WordSplitter::cut(std::string_view text, const Receiver& piece) const {
  std::size_t at = 0;
  while (!removed_.empty()) {
    const std::size_t found = text.find(removed_, at);
    if (found == std::string_view::npos) break;
    cut_digits(text.substr(at, found - at), piece);
    at = found + removed_.size();
  }
  cut_digits(text.substr(at), piece);
}

void WordSplitter::cut_digits(std::string_view text, const Receiver& piece) const {
  std::size_t at = 0;
  if (digits_) {
    digits_->each(text, [&](std::string_view digit) {
      const auto begin = static_cast<std::size_t>(digit.data() - text.data());
      if (begin > at) piece(text.substr(at, begin - at));
      piece(digit);
      at = begin + digit.size();
    });
  }
  if (at < text.size()) piece(text.substr(at));
}

void WordSplitter::split(std::string_view piece, const Receiver& word) const {
  if (words_) {
    words_->each(piece, word);
  } else if (!piece.empty()) {
    word(piece);
  }
}

}  // namespace sluice::launcher
