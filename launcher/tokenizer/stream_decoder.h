// The text of a growing list of tokens: only what can no longer change is given out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// Holds back bytes of an unfinished character, and text that may be the beginning of a stop
/// string. Text ends where a stop string begins. Of several stop strings the one that is complete
/// first wins, and among those the longest: this does not depend on where tokens begin and end.
/// What push() and finish() return, together, is Tokenizer::decode of all ids, cut there.
///
/// A stop string is looked for in the text as it is given out. Where special tokens are left out
/// of that, it is looked for in the text with them as well, so that it may be or contain one, but
/// not a part of one.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive it. Pre: stop strings are not empty. `skip_special`: special tokens
  /// are left out of the text.
  StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop, bool skip_special);

  /// The text that one more token makes certain; often empty. After a stop string: empty.
  /// Throws InputError for an id outside the vocabulary.
  std::string push(std::int32_t id);

  /// What was held back: the list of tokens is complete.
  std::string finish();

  /// A stop string was found.
  bool stopped() const { return stopped_; }

 private:
  enum class Mark : std::uint8_t { shown, hidden_begin, hidden };  // of a byte

  /// Held bytes read as text. Places are offsets in bytes_.
  struct Reading {
    std::string text;
    std::vector<std::size_t> begin;  // by byte of `text`: the place of its character
    std::vector<std::size_t> end;    // and that behind it
    std::size_t rest = 0;            // the place of the unfinished character
  };
  struct Match {
    std::size_t begin = std::string::npos;
    std::size_t end = std::string::npos;
  };

  Reading read(bool with_hidden, bool all) const;
  bool is_within_hidden(std::size_t place) const;
  Match find(const Reading& reading, std::string_view stop) const;
  std::size_t begun(const Reading& reading, std::string_view stop) const;
  void look_for_stops(const Reading& reading, Match& first, std::size_t& hold) const;
  std::string shown_before(std::size_t place) const;
  std::string release(bool all);

  const Tokenizer* tokenizer_;
  std::vector<std::string> stop_;
  bool skip_special_;
  bool stopped_ = false;
  std::string bytes_;        // of the tokens, from the first that is held back
  std::vector<Mark> marks_;  // of each byte
};

}  // namespace sluice::launcher
