#include "launcher/tokenizer/splitting.h"

#include <array>
#include <utility>
#include <vector>

#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

/// Turns matches into parts.
class Parts {
 public:
  Parts(std::size_t bytes, PartReceiver next) : bytes_(bytes), next_(next) {}
  void match(std::size_t begin, std::size_t end) {
    if (done_ < begin) next_({done_, begin, false});
    next_({begin, end, true});
    done_ = end;
  }
  void finish() {
    if (done_ < bytes_) next_({done_, bytes_, false});
  }

 private:
  std::size_t bytes_;
  std::size_t done_ = 0;
  PartReceiver next_;
};

class TextPattern final : public Pattern {
 public:
  explicit TextPattern(std::string text) : text_(std::move(text)) {}
  void find(std::string_view text, PartReceiver next) const override {
    Parts parts(text.size(), next);
    std::size_t at = text_.empty() ? std::string_view::npos : text.find(text_);
    for (; at != std::string_view::npos; at = text.find(text_, at + text_.size())) {
      parts.match(at, at + text_.size());
    }
    parts.finish();
  }

 private:
  std::string text_;
};

class RegexPattern final : public Pattern {
 public:
  explicit RegexPattern(Regex regex) : regex_(std::move(regex)) {}
  void find(std::string_view text, PartReceiver next) const override {
    Parts parts(text.size(), next);
    regex_.each(text, [&](Regex::Match match) { parts.match(match.begin, match.end); });
    parts.finish();
  }

 private:
  Regex regex_;
};

class CharacterPattern final : public Pattern {
 public:
  explicit CharacterPattern(const CharacterSet& set) : set_(set) {}
  void find(std::string_view text, PartReceiver next) const override {
    Parts parts(text.size(), next);
    std::size_t bytes = 0;
    for (std::size_t at = 0; at < text.size(); at += bytes) {
      if (set_.contains(character_at(text, at, bytes))) parts.match(at, at + bytes);
    }
    parts.finish();
  }

 private:
  const CharacterSet& set_;
};

class BytePattern final : public Pattern {
 public:
  explicit BytePattern(const CharacterSet& set) {
    for (std::size_t byte = 0; byte < matches_.size(); ++byte) {
      matches_[byte] = set.contains(first_character(byte_symbol(static_cast<unsigned char>(byte))));
    }
  }
  void find(std::string_view text, PartReceiver next) const override {
    Parts parts(text.size(), next);
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (matches_[static_cast<unsigned char>(text[at])]) parts.match(at, at + 1);
    }
    parts.finish();
  }

 private:
  std::array<bool, 256> matches_ = {};
};

/// [0-9][0-9][0-9], Falcon's last step, which sees every word.
class DigitTriples final : public Pattern {
 public:
  static constexpr std::string_view kPattern = "[0-9][0-9][0-9]";

  void find(std::string_view text, PartReceiver next) const override {
    Parts parts(text.size(), next);
    std::size_t digits = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
      digits = text[at] >= '0' && text[at] <= '9' ? digits + 1 : 0;
      if (digits < 3) continue;
      parts.match(at - 2, at + 1);
      digits = 0;
    }
    parts.finish();
  }
};

/// Whether `part` joins the one before it. `previous`: whether that was a match.
bool joins(Part part, SplitBehavior behavior, bool previous) {
  if (behavior == SplitBehavior::contiguous) return part.match == previous;
  return part.match && !previous;
}

/// Joins parts to the ones before them as they come.
class ForwardMerger {
 public:
  ForwardMerger(SplitBehavior behavior, PartReceiver next) : behavior_(behavior), next_(next) {}
  void add(Part part) {
    if (any_ && joins(part, behavior_, last_matches_)) {
      merged_.end = part.end;
    } else {
      finish();
      merged_ = part;
      any_ = true;
    }
    last_matches_ = part.match;
  }
  void finish() {
    if (any_) next_(merged_);
  }

 private:
  SplitBehavior behavior_;
  PartReceiver next_;
  Part merged_;
  bool any_ = false;
  bool last_matches_ = false;
};

std::vector<Part> merged_backwards(const std::vector<Part>& parts) {
  std::vector<Part> merged;
  bool previous = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (!merged.empty() && joins(*part, SplitBehavior::merged_with_next, previous)) {
      merged.back().begin = part->begin;
    } else {
      merged.push_back(*part);
    }
    previous = part->match;
  }
  return {merged.rbegin(), merged.rend()};
}

}  // namespace

std::unique_ptr<const Pattern> make_pattern(const StepPattern& pattern, const std::string& where) {
  if (!pattern.is_regex) return std::make_unique<TextPattern>(pattern.text);
  if (pattern.text == DigitTriples::kPattern) return std::make_unique<DigitTriples>();
  return std::make_unique<RegexPattern>(Regex(pattern.text, where));
}

std::unique_ptr<const Pattern> make_pattern(const CharacterSet& set) {
  return std::make_unique<CharacterPattern>(set);
}

std::unique_ptr<const Pattern> make_byte_pattern(const CharacterSet& set) {
  return std::make_unique<BytePattern>(set);
}

bool reads_bytes(const StepPattern& pattern) {
  return pattern.is_regex && pattern.text == DigitTriples::kPattern;
}

void split(Piece piece, const Pattern& pattern, SplitBehavior behavior, bool invert,
           PieceReceiver next) {
  const auto give = [&](Part part) {
    if (part.begin == part.end) return;
    next({piece.text.substr(part.begin, part.end - part.begin), piece.first && part.begin == 0});
  };
  if (behavior == SplitBehavior::isolated || behavior == SplitBehavior::removed) {
    const bool all = behavior == SplitBehavior::isolated;
    pattern.find(piece.text, [&](Part part) {
      if (all || part.match == invert) give(part);
    });
    return;
  }
  std::vector<Part> parts;
  ForwardMerger merger(behavior, give);
  const bool backwards = behavior == SplitBehavior::merged_with_next;
  pattern.find(piece.text, [&](Part part) {
    part.match = part.match != invert;
    if (backwards) {
      parts.push_back(part);
    } else {
      merger.add(part);
    }
  });
  merger.finish();
  for (const Part& part : merged_backwards(parts)) give(part);
}

}  // namespace sluice::launcher
