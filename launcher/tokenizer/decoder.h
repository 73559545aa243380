// What each token adds to a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/splitting.h"
#include "launcher/tokenizer/steps.h"

namespace sluice::launcher {

/// Immutable: any thread may use it.
/// Source: github.com/huggingface/tokenizers, folder decoders.
class Decoder {
 public:
  struct TokenText {
    std::string bytes;
    bool is_byte = false;  // one byte, by a token such as <0x0A>
  };

  /// Throws InputError naming `where` for steps in an order that it cannot follow. Without steps,
  /// tokens are words with a blank between them.
  Decoder(const std::vector<DecoderStep>& steps, const std::string& where);

  /// `first`: the token is the first of its text.
  TokenText text_of(const std::string& token, bool first) const;

  /// Up to strip_count() of these, one character each, are left out where a text begins.
  const std::string& stripped() const { return stripped_; }
  std::int64_t strip_count() const { return strip_count_; }

 private:
  struct Edit {
    DecoderStep step;
    std::shared_ptr<const Pattern> pattern;  // of replace
  };

  void add(const DecoderStep& step, const std::string& where);
  static std::string edited(const Edit& edit, const std::string& token, bool first);

  std::vector<Edit> edits_;  // of single tokens
  bool words_ = false;
  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool joined_ = false;  // the steps that follow see one text
  std::string stripped_;
  std::int64_t strip_count_ = 0;
};

/// Bytes as text. Of byte tokens, where `is_byte` is set, a run that is no UTF-8 becomes one U+FFFD
/// for each of its bytes; other bytes, one for each maximal broken part. `is_byte` has one element
/// for each byte, or none if no byte is of a byte token.
std::string text_of_bytes(std::string_view bytes, const std::vector<bool>& is_byte);

/// For people: "bytes", "text, byte tokens".
std::string describe(const std::vector<DecoderStep>& steps);

}  // namespace sluice::launcher
