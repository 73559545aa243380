// A text as matches of a pattern and the parts between them, and what becomes of the two.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "launcher/tokenizer/function_ref.h"
#include "launcher/tokenizer/pre_tokenizer.h"
#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/steps.h"

namespace sluice::launcher {

/// A match, or a part between matches.
struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool match = false;
};
using PartReceiver = FunctionRef<void(Part)>;

/// Immutable: any thread may use it.
class Pattern {
 public:
  virtual ~Pattern() = default;
  /// Calls `next` with all parts of `text`, in order. A match may be empty, other parts are not.
  virtual void find(std::string_view text, PartReceiver next) const = 0;
};

/// Throws InputError naming `where` for what is no regular expression.
std::unique_ptr<const Pattern> make_pattern(const StepPattern& pattern, const std::string& where);
/// Each character of a set, which must outlive it, is a match of its own.
std::unique_ptr<const Pattern> make_pattern(const CharacterSet& set);

// Behind ByteLevel, patterns look at the symbols of bytes (byte_alphabet.h).

/// Each byte whose symbol is in the set is a match of its own.
std::unique_ptr<const Pattern> make_byte_pattern(const CharacterSet& set);
/// Whether the pattern finds the same matches in bytes as in their symbols.
bool reads_bytes(const StepPattern& pattern);

/// Calls `next` with the pieces of `piece`. `invert`: matches and other parts change places.
void split(Piece piece, const Pattern& pattern, SplitBehavior behavior, bool invert,
           PieceReceiver next);

}  // namespace sluice::launcher
