#include "launcher/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/splitting.h"
#include "launcher/tokenizer/utf8.h"
#include "launcher/tokenizer/word_scanner.h"

namespace sluice::launcher {
namespace {

using Kind = PreTokenizerStep::Kind;

class Split final : public PreTokenizer {
 public:
  Split(std::unique_ptr<const Pattern> pattern, SplitBehavior behavior, bool invert = false)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(Piece piece, PieceReceiver next) const override {
    launcher::split(piece, *pattern_, behavior_, invert_, next);
  }

 private:
  std::unique_ptr<const Pattern> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// The matches of a pattern, and what lies between them.
class Words final : public PreTokenizer {
 public:
  explicit Words(std::unique_ptr<const WordScanner> scanner) : scanner_(std::move(scanner)) {}
  void split(Piece piece, PieceReceiver next) const override {
    while (!piece.text.empty()) {
      const std::size_t bytes = scanner_->word_bytes(piece.text);
      next({piece.text.substr(0, bytes), piece.first});
      piece = {piece.text.substr(bytes), false};
    }
  }

 private:
  std::unique_ptr<const WordScanner> scanner_;
};

/// ByteLevel's blank in front.
class PrefixSpace final : public PreTokenizer {
 public:
  void split(Piece piece, PieceReceiver next) const override {
    if (piece.text.starts_with(' ')) {
      next(piece);
    } else {
      next({' ' + std::string(piece.text), piece.first});
    }
  }
};

/// Bytes to GPT-2's symbols, for steps that look at these.
class ToSymbols final : public PreTokenizer {
 public:
  void split(Piece piece, PieceReceiver next) const override {
    std::string symbols;
    for (const char byte : piece.text) symbols += byte_symbol(static_cast<unsigned char>(byte));
    next({symbols, piece.first});
  }
};

class FromSymbols final : public PreTokenizer {
 public:
  void split(Piece piece, PieceReceiver next) const override {
    const std::optional<std::string> bytes = bytes_of_symbols(piece.text);
    if (bytes) next({*bytes, piece.first});
  }
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), splits_(split) {}

  void split(Piece piece, PieceReceiver next) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2);
    for (const char byte : piece.text) {
      if (byte == ' ') {
        text += replacement_;
      } else {
        text += byte;
      }
    }
    const bool wanted =
        prepend_ == PrependScheme::always || (prepend_ == PrependScheme::first && piece.first);
    if (wanted && !text.starts_with(replacement_)) text.insert(0, replacement_);
    if (!splits_) {
      next({text, piece.first});
      return;
    }
    // A piece begins at each replacement.
    const std::string_view all = text;
    for (std::size_t begin = 0; begin < all.size();) {
      const std::size_t end = std::min(all.find(replacement_, begin + 1), all.size());
      next({all.substr(begin, end - begin), piece.first && begin == 0});
      begin = end;
    }
  }

 private:
  std::string replacement_;
  PrependScheme prepend_;
  bool splits_;
};

/// \w+|[^\w\s]+, in Rust's syntax.
class Whitespace final : public PreTokenizer {
 public:
  void split(Piece piece, PieceReceiver next) const override {
    const std::string_view text = piece.text;
    for (std::size_t begin = 0; begin < text.size();) {
      const int kind = kind_at(text, begin);
      std::size_t end = begin;
      while (end < text.size() && kind_at(text, end) == kind) {
        end += first_part(text.substr(end)).bytes;
      }
      if (kind != 0) next({text.substr(begin, end - begin), piece.first && begin == 0});
      begin = end;
    }
  }

 private:
  static int kind_at(std::string_view text, std::size_t at) {
    const char32_t character = first_character(text.substr(at));
    if (word_characters().contains(character)) return 1;
    return is_white_space(character) ? 0 : 2;
  }
};

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void split(Piece piece, PieceReceiver next) const override { from(0, piece, next); }

 private:
  void from(std::size_t step, Piece piece, PieceReceiver next) const {
    if (step + 1 == steps_.size()) {
      steps_[step]->split(piece, next);
      return;
    }
    steps_[step]->split(piece, [&](Piece part) { from(step + 1, part, next); });
  }

  std::vector<std::unique_ptr<const PreTokenizer>> steps_;
};

class Builder {
 public:
  Builder(const std::vector<PreTokenizerStep>& steps, const std::string& where) : where_(where) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (form_ != Form::characters) refuse_after_bytes(steps[i]);
      add(steps[i], i + 1 == steps.size());
    }
    if (form_ == Form::symbols) put(std::make_unique<FromSymbols>());
  }

  std::unique_ptr<const PreTokenizer> take() {
    if (made_.empty()) return nullptr;
    if (made_.size() == 1) return std::move(made_.front());
    return std::make_unique<Sequence>(std::move(made_));
  }

 private:
  void put(std::unique_ptr<const PreTokenizer> step) { made_.push_back(std::move(step)); }

  void refuse_after_bytes(const PreTokenizerStep& step) const {
    if (step.kind != Kind::byte_level && step.kind != Kind::metaspace) return;
    throw InputError(fmt::format("{}: a step {} behind ByteLevel is not supported", where_,
                                 step.kind == Kind::metaspace ? "Metaspace" : "ByteLevel"));
  }

  void add_byte_level(const PreTokenizerStep& step, bool last) {
    if (step.prefix_space) put(std::make_unique<PrefixSpace>());
    if (step.use_regex) put(std::make_unique<Words>(WordScanner::of(kGpt2Pattern)));
    if (!last) form_ = Form::bytes;
  }

  /// For a step that must see the symbols themselves.
  void make_symbols() {
    if (form_ == Form::bytes) put(std::make_unique<ToSymbols>());
    if (form_ == Form::bytes) form_ = Form::symbols;
  }

  void add_characters(const CharacterSet& set, SplitBehavior behavior) {
    put(std::make_unique<Split>(form_ == Form::bytes ? make_byte_pattern(set) : make_pattern(set),
                                behavior));
  }

  void add_split(const PreTokenizerStep& step) {
    if (!reads_bytes(step.pattern)) make_symbols();
    auto scanner = step.pattern.is_regex ? WordScanner::of(step.pattern.text) : nullptr;
    if (scanner && step.behavior == SplitBehavior::isolated) {
      put(std::make_unique<Words>(std::move(scanner)));
      return;
    }
    put(std::make_unique<Split>(make_pattern(step.pattern, where_), step.behavior, step.invert));
  }

  void add(const PreTokenizerStep& step, bool last) {
    switch (step.kind) {
      case Kind::byte_level:
        add_byte_level(step, last);
        break;
      case Kind::split:
        add_split(step);
        break;
      case Kind::digits:
        add_characters(
            digits(), step.individual_digits ? SplitBehavior::isolated : SplitBehavior::contiguous);
        break;
      case Kind::punctuation:
        add_characters(punctuation(), step.behavior);
        break;
      case Kind::metaspace:
        put(std::make_unique<Metaspace>(step.replacement, step.prepend, step.split));
        break;
      case Kind::whitespace:
        make_symbols();
        put(std::make_unique<Whitespace>());
        break;
      case Kind::whitespace_split:
        add_characters(white_space(), SplitBehavior::removed);
        break;
    }
  }

  const std::string& where_;
  std::vector<std::unique_ptr<const PreTokenizer>> made_;
  /// Of pieces. Steps behind ByteLevel see symbols of GPT-2's alphabet; those that can do with the
  /// bytes are given these.
  enum class Form : std::uint8_t { characters, bytes, symbols };
  Form form_ = Form::characters;
};

std::string describe(const PreTokenizerStep& step) {
  switch (step.kind) {
    case Kind::byte_level:
      return fmt::format("{}{}bytes", step.prefix_space ? "a blank in front, " : "",
                         step.use_regex ? "words by GPT-2's pattern, " : "");
    case Kind::split:
      return fmt::format("{} {}", step.pattern.is_regex ? "pattern" : "text", step.pattern.text);
    case Kind::digits:
      return step.individual_digits ? "digits one by one" : "numbers apart";
    case Kind::punctuation:
      return "punctuation apart";
    case Kind::metaspace:
      return fmt::format("blanks become \"{}\"", step.replacement);
    case Kind::whitespace:
      return "words and signs apart";
    case Kind::whitespace_split:
      return "at white space";
  }
  return {};
}

}  // namespace

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const std::vector<PreTokenizerStep>& steps,
                                                       const std::string& where) {
  return Builder(steps, where).take();
}

std::string describe(const std::vector<PreTokenizerStep>& steps) {
  std::string text;
  for (const PreTokenizerStep& step : steps) text += (text.empty() ? "" : ", ") + describe(step);
  return text.empty() ? "none" : text;
}

}  // namespace sluice::launcher
