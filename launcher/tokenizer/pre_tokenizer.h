// Cuts a text into the pieces that the model turns into tokens, each on its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/function_ref.h"
#include "launcher/tokenizer/steps.h"

namespace sluice::launcher {

/// A part of a text on its way to the model. Never empty.
struct Piece {
  std::string_view text;
  bool first = false;  // it begins where the whole text begins
};

/// What it is given is valid only during the call.
using PieceReceiver = FunctionRef<void(Piece)>;

/// Immutable: any thread may use it.
/// Source: github.com/huggingface/tokenizers, folder pre_tokenizers, and tokenizer/normalizer.rs.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Calls `next` with each piece of `piece`, in order. Pre: valid UTF-8. Throws InputError where a
  /// pattern needs too much backtracking.
  virtual void split(Piece piece, PieceReceiver next) const = 0;
};

/// All steps: each cuts the pieces of the one before. Null: there are none. Where a step is
/// byte_level, the pieces that come out are bytes, not symbols of GPT-2's alphabet. Throws
/// InputError naming `where` for a pattern that is no regular expression, and for steps behind
/// byte_level that would change its symbols.
std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const std::vector<PreTokenizerStep>& steps,
                                                       const std::string& where);

/// For people: "words by GPT-2's pattern, bytes".
std::string describe(const std::vector<PreTokenizerStep>& steps);

}  // namespace sluice::launcher
