// The steps of a tokenizer as its file names them, in plain data: what is done with a text before
// the model sees it, and with the model's tokens when text is made of them.
// Source: github.com/huggingface/tokenizers, folders normalizers, pre_tokenizers and decoders.
#pragma once

#include <cstdint>
#include <string>

namespace sluice::launcher {

/// What is looked for: a text, or a regular expression of Oniguruma.
struct StepPattern {
  std::string text;
  bool is_regex = false;
};

struct NormalizerStep {
  enum class Kind : std::uint8_t {
    nfc,
    nfd,
    nfkc,
    nfkd,
    replace,  // each `pattern` by `content`
    prepend,  // `content` in front of every piece
    lowercase,
    strip,          // white space at the ends
    strip_accents,  // without marks
  };
  Kind kind = Kind::nfc;
  StepPattern pattern = {};
  std::string content = {};
  bool left = true;  // strip: this end
  bool right = true;
};

/// What becomes of the matches between the other parts of a text.
enum class SplitBehavior : std::uint8_t {
  removed,
  isolated,
  merged_with_previous,
  merged_with_next,
  contiguous,  // neighbouring matches are one piece
};

enum class PrependScheme : std::uint8_t { always, first, never };

struct PreTokenizerStep {
  enum class Kind : std::uint8_t {
    byte_level,   // words by GPT-2's pattern, if `use_regex`; bytes from here on
    split,        // at each `pattern`
    digits,       // at numbers
    punctuation,  // at punctuation marks
    metaspace,    // blanks become `replacement`
    whitespace,   // runs of word characters and runs of signs, without white space
    whitespace_split,
  };
  Kind kind = Kind::byte_level;
  StepPattern pattern = {};
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;             // split: the parts between matches count as matches
  bool prefix_space = false;       // byte_level: a blank before each piece that has none
  bool use_regex = true;           // byte_level
  bool individual_digits = false;  // digits: one by one
  std::string replacement = {};    // metaspace
  PrependScheme prepend = PrependScheme::always;
  bool split = true;  // metaspace: a piece begins at each replacement
};

struct DecoderStep {
  enum class Kind : std::uint8_t {
    byte_level,     // tokens are bytes in GPT-2's alphabet
    replace,        // each `pattern` in a token by `content`
    byte_fallback,  // tokens such as <0x0A> are bytes
    fuse,           // the tokens become one text
    strip,          // up to `start` times `content` in front, `stop` times behind
    metaspace,      // `content` becomes a blank; in the first token, nothing, if `prepended`
  };
  Kind kind = Kind::byte_level;
  StepPattern pattern = {};
  std::string content = {};
  std::int64_t start = 0;
  std::int64_t stop = 0;
  bool prepended = true;
};

}  // namespace sluice::launcher
