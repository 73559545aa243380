#include "launcher/tokenizer/regex.h"

#include <fmt/format.h>
#include <oniguruma.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/newer_unicode.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMaxPatternBytes = 1 << 16;
// Steps of backtracking: a search begins with the first number, and is repeated with 16 times as
// many while the text's account lasts.
constexpr std::uint64_t kFirstSteps = 1024;
constexpr std::uint64_t kStepsPerText = 20'000'000;
constexpr std::uint64_t kStepsPerByte = 32;
constexpr unsigned int kMaxStack = 1U << 24;
// Some loops of the engine count no steps, so the processor's time is bounded as well: by forty
// times what the slowest published pattern takes.
constexpr double kSecondsPerText = 1.0;
constexpr double kSecondsPerByte = 4e-6;
constexpr int kSearchesPerLook = 256;

/// Starts the library once, and tells it of characters that are newer than its release.
class Library {
 public:
  static const Library& get() {
    static const Library library;
    return library;
  }

  /// Source ranges of a property as the library keeps them: {count, from, to, from, to, ...}.
  const OnigCodePoint* ranges(std::string_view property) const {
    OnigEncoding encoding = ONIG_ENCODING_UTF8;
    const auto* name = reinterpret_cast<const OnigUChar*>(property.data());
    // The library's own declaration lacks the const.
    auto* begin = const_cast<OnigUChar*>(name);
    const int type = ONIGENC_PROPERTY_NAME_TO_CTYPE(encoding, begin, begin + property.size());
    OnigCodePoint single_bytes = 0;
    const OnigCodePoint* found = nullptr;
    if (type < 0 || ONIGENC_GET_CTYPE_CODE_RANGE(encoding, static_cast<OnigCtype>(type),
                                                 &single_bytes, &found) != ONIG_NORMAL) {
      throw Error(ExitStatus::failure, fmt::format("Oniguruma lacks the property {}", property));
    }
    return found;
  }

 private:
  Library() {
    OnigEncoding encoding = ONIG_ENCODING_UTF8;
    onig_initialize(&encoding, 1);
    properties_.reserve(kGrownProperties.size());
    for (const GrownProperty& grown : kGrownProperties) properties_.push_back(grown_ranges(grown));
    // The library keeps the pointers, and finds these before its own properties of the same name.
    for (std::size_t i = 0; i < properties_.size(); ++i) {
      onig_unicode_define_user_property(kGrownProperties[i].name, properties_[i].data());
    }
  }

  std::vector<OnigCodePoint> grown_ranges(const GrownProperty& grown) const {
    const OnigCodePoint* known = ranges(grown.name);
    std::vector<std::pair<OnigCodePoint, OnigCodePoint>> pairs;
    for (OnigCodePoint i = 0; i < known[0]; ++i) {
      pairs.emplace_back(known[1 + 2 * i], known[2 + 2 * i]);
    }
    for (const NewerRange& newer : kNewerRanges) {
      if (grown.categories.find(newer.category) == std::string_view::npos) continue;
      pairs.emplace_back(newer.from, newer.to);
    }
    std::ranges::sort(pairs);
    std::vector<OnigCodePoint> all(1, 0);
    for (const auto& [from, to] : pairs) {
      if (all.size() > 1 && from <= all.back() + 1) {
        all.back() = std::max(all.back(), to);
      } else {
        all.push_back(from);
        all.push_back(to);
      }
    }
    all[0] = static_cast<OnigCodePoint>((all.size() - 1) / 2);
    return all;
  }

  std::vector<std::vector<OnigCodePoint>> properties_;
};

std::string message_of(int code, OnigErrorInfo* info = nullptr) {
  std::array<OnigUChar, ONIG_MAX_ERROR_MESSAGE_LEN> text = {};
  const int size = info == nullptr ? onig_error_code_to_str(text.data(), code)
                                   : onig_error_code_to_str(text.data(), code, info);
  return {reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(size)};
}

/// Of a long pattern only the beginning is shown.
std::string shown(const std::string& pattern) {
  constexpr std::size_t kMost = 60;
  return pattern.size() <= kMost ? pattern : replace_broken(pattern.substr(0, kMost)) + "...";
}

struct Deleter {
  void operator()(OnigRegion* region) const noexcept { onig_region_free(region, 1); }
  void operator()(OnigMatchParam* param) const noexcept { onig_free_match_param(param); }
};

}  // namespace

class Regex::Code {
 public:
  Code(const std::string& pattern, const std::string& where) {
    Library::get();
    const auto* begin = reinterpret_cast<const OnigUChar*>(pattern.data());
    OnigErrorInfo info = {};
    const int result = pattern.size() > kMaxPatternBytes
                           ? ONIGERR_TOO_BIG_NUMBER
                           : onig_new(&code_, begin, begin + pattern.size(), ONIG_OPTION_NONE,
                                      ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, &info);
    if (result == ONIG_NORMAL) return;
    onig_free(code_);
    throw InputError(fmt::format(
        "{}: the pattern \"{}\" is no regular expression: {}", where, shown(pattern),
        pattern.size() > kMaxPatternBytes ? "it is too long" : message_of(result, &info)));
  }
  ~Code() { onig_free(code_); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  OnigRegex get() const { return code_; }

 private:
  OnigRegex code_ = nullptr;
};

namespace {

/// The searches in one text.
class Search {
 public:
  Search(OnigRegex code, const std::string& pattern, std::string_view text)
      : code_(code),
        pattern_(pattern),
        text_(text),
        region_(onig_region_new()),
        param_(onig_new_match_param()),
        account_(kStepsPerText + kStepsPerByte * text.size()) {
    if (!region_ || !param_) throw std::bad_alloc();
    onig_initialize_match_param(param_.get());
    onig_set_match_stack_limit_size_of_match_param(param_.get(), kMaxStack);
  }

  /// The first match at or after `at`. False: there is none.
  bool find(std::size_t at, Regex::Match& match) {
    if (++searches_ % kSearchesPerLook == 0) look_at_clock(at);
    for (std::uint64_t steps = kFirstSteps;; steps = std::min(16 * steps, account_)) {
      onig_set_retry_limit_in_match_of_match_param(param_.get(), steps);
      onig_set_retry_limit_in_search_of_match_param(param_.get(), steps);
      const int result = onig_search_with_param(code_, begin(), end(), begin() + at, end(),
                                                region_.get(), ONIG_OPTION_NONE, param_.get());
      if (result == ONIG_MISMATCH) return false;
      if (result >= 0) {
        match = {static_cast<std::size_t>(region_->beg[0]),
                 static_cast<std::size_t>(region_->end[0])};
        return true;
      }
      const bool ran_out = result == ONIGERR_RETRY_LIMIT_IN_MATCH_OVER ||
                           result == ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER;
      if (!ran_out || steps >= account_) refuse(at, result);
      account_ -= steps;
    }
  }

 private:
  /// The clock is a call of the kernel, so it starts only in texts of many matches.
  void look_at_clock(std::size_t at) {
    const double allowed = kSecondsPerText + kSecondsPerByte * static_cast<double>(text_.size());
    if (first_second_ == 0.0) first_second_ = seconds();
    if (seconds() - first_second_ > allowed) refuse(at, ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER);
  }

  /// The processor's time of this thread.
  static double seconds() {
    timespec time = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  const OnigUChar* begin() const { return reinterpret_cast<const OnigUChar*>(text_.data()); }
  const OnigUChar* end() const { return begin() + text_.size(); }

  [[noreturn]] void refuse(std::size_t at, int code) const {
    throw InputError(
        fmt::format("the tokenizer's pattern \"{}\" cannot cut this text of {} bytes at byte {}: "
                    "{}; cut the text, or mend the pattern",
                    shown(pattern_), text_.size(), at, message_of(code)));
  }

  OnigRegex code_;
  const std::string& pattern_;
  std::string_view text_;
  std::unique_ptr<OnigRegion, Deleter> region_;
  std::unique_ptr<OnigMatchParam, Deleter> param_;
  std::uint64_t account_;  // steps left
  int searches_ = 0;
  double first_second_ = 0.0;  // 0: not asked yet
};

}  // namespace

Regex::Regex(std::string pattern, const std::string& where)
    : pattern_(std::move(pattern)), code_(std::make_unique<Code>(pattern_, where)) {}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::each(std::string_view text, FunctionRef<void(Match)> found) const {
  Search search(code_->get(), pattern_, text);
  std::size_t last_end = std::string_view::npos;
  Match match;
  for (std::size_t at = 0; at < text.size() || (at == text.size() && last_end != at);) {
    if (!search.find(at, match)) return;
    if (match.begin == match.end && match.end == last_end) {
      if (at >= text.size()) return;
      at += first_part(text.substr(at)).bytes;
      continue;
    }
    at = last_end = match.end;
    found(match);
  }
}

CharacterSet::CharacterSet(std::initializer_list<const char*> properties) : bits_(0x110000 / 64) {
  for (const char* property : properties) {
    const OnigCodePoint* ranges = Library::get().ranges(property);
    for (OnigCodePoint i = 0; i < ranges[0]; ++i) {
      const OnigCodePoint end = std::min<OnigCodePoint>(ranges[2 + 2 * i], 0x10FFFF);
      for (OnigCodePoint c = ranges[1 + 2 * i]; c <= end; ++c) add(c);
    }
  }
}

void CharacterSet::each(FunctionRef<void(char32_t)> found) const {
  for (std::size_t i = 0; i < bits_.size(); ++i) {
    for (std::uint64_t bits = bits_[i]; bits != 0; bits &= bits - 1) {
      found(static_cast<char32_t>(64 * i + static_cast<std::size_t>(std::countr_zero(bits))));
    }
  }
}

const CharacterSet& letters() {
  static const CharacterSet set({"L"});
  return set;
}

const CharacterSet& numbers() {
  static const CharacterSet set({"N"});
  return set;
}

const CharacterSet& punctuation() {
  static const CharacterSet set = [] {
    CharacterSet made({"P"});
    for (const auto& [from, to] : kLaterPunctuation) {
      for (char32_t c = from; c <= to; ++c) made.remove(c);
    }
    for (const auto& [from, to] : kEarlierPunctuation) {
      for (char32_t c = from; c <= to; ++c) made.add(c);
    }
    for (const char sign : std::string_view("$+<=>^`|~")) made.add(static_cast<char32_t>(sign));
    return made;
  }();
  return set;
}

const CharacterSet& digits() {
  static const CharacterSet set = [] {
    CharacterSet made({"N"});
    for (const auto& [from, to] : kLaterNumbers) {
      for (char32_t c = from; c <= to; ++c) made.add(c);
    }
    return made;
  }();
  return set;
}

const CharacterSet& marks() {
  static const CharacterSet set({"M"});
  return set;
}

const CharacterSet& white_space() {
  static const CharacterSet set = [] {
    CharacterSet made({});
    for (char32_t c = 0; c <= 0x3000; ++c) {
      if (is_white_space(c)) made.add(c);
    }
    return made;
  }();
  return set;
}

const CharacterSet& word_characters() {
  static const CharacterSet set = [] {
    CharacterSet made({"Alphabetic", "M", "Nd", "Pc"});
    made.add(0x200C);
    made.add(0x200D);
    return made;
  }();
  return set;
}

bool is_word_character(std::string_view text) {
  return word_characters().contains(first_character(text));
}

}  // namespace sluice::launcher
