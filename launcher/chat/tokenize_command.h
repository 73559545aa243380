// `sluice tokenize`: text to token ids and back, line by line.
#pragma once

#include <iosfwd>

#include "kernels/device/error.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

class ChatTemplate;

struct TokenizeOptions {
  bool jsonl = false;   // lines are {"text": "..."} and {"ids": [...]}; else text and "2 100 65"
  bool decode = false;  // ids to text
  /// Not null: lines are conversations (read_chat), and become {"text", "ids"} by this template. It
  /// writes all special tokens itself: none is added. Must outlive the call.
  const ChatTemplate* chat = nullptr;
};

/// Writes one line to `out` for each line of `in`: the ids with BOS first, or the text with special
/// tokens. Without --jsonl a decoded text may hold line breaks of its own. A line that cannot be
/// read goes to `errors` with its number and is left out; the status is then rows_failed. Throws
/// IoError when `in` cannot be read or `out` takes no more.
ExitStatus tokenize_lines(const Tokenizer& tokenizer, const TokenizeOptions& options,
                          std::istream& in, std::ostream& out, std::ostream& errors);

}  // namespace sluice::launcher
