// The text of a growing list of tokens: only what can no longer change is given out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// Holds back bytes of an unfinished character, and text that may be the beginning of a stop
/// string. Text ends where a stop string begins. Of several stop strings the one that is complete
/// first wins, and among those the longest: this does not depend on where tokens begin and end.
/// What push() and finish() return, together, is Tokenizer::decode of all ids, cut there.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive it. Pre: stop strings are not empty.
  StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop, bool skip_special);

  /// The text that one more token makes certain; often empty. After a stop string: empty.
  /// Throws InputError for an id outside the vocabulary.
  std::string push(std::int32_t id);

  /// What was held back: the list of tokens is complete.
  std::string finish();

  /// A stop string was found.
  bool stopped() const { return stopped_; }

 private:
  std::string release(bool all);

  const Tokenizer* tokenizer_;
  std::vector<std::string> stop_;
  bool skip_special_;
  bool stopped_ = false;
  std::string bytes_;  // of an unfinished character
  std::string held_;   // may be the beginning of a stop string
};

}  // namespace sluice::launcher
