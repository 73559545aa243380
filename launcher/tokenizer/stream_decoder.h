// The text of a growing list of tokens: only what can no longer change is given out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// Holds back bytes of an unfinished character, and text that may be the beginning of a stop
/// string. Text ends where a stop string begins. Of several stop strings the one that is complete
/// first wins, and among those the longest: this does not depend on where tokens begin and end.
/// What push() and finish() return, together, is Tokenizer::decode of all ids, cut there. Where the
/// tokens go on from a prompt, it is what decode() of the whole has more than that of the prompt.
///
/// A run of byte tokens (<0x0A>) is held back until it ends, since a broken byte would change all
/// of it. A stop string is found in it at once.
///
/// A stop string is looked for in the text as it is given out. Where special tokens are left out
/// of that, it is looked for in the text with them as well, so that it may be or contain one, but
/// not a part of one.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive it. Pre: stop strings are not empty. `skip_special`: special tokens
  /// are left out of the text. `prompt`: the tokens go on from these.
  StreamDecoder(const Tokenizer& tokenizer, std::vector<std::string> stop, bool skip_special,
                std::span<const std::int32_t> prompt = {});

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
    std::vector<std::size_t> begin;     // by byte of `text`: the place of its character
    std::vector<std::size_t> end;       // and that behind it
    std::size_t rest = 0;               // the place of what is not certain yet
    std::vector<std::size_t> left_out;  // places behind what is left out where the text begins
  };
  struct Match {
    std::size_t begin = std::string::npos;
    std::size_t end = std::string::npos;
  };

  struct Bytes;

  Bytes collect(bool with_hidden) const;
  static void read_plain(const Bytes& bytes, std::size_t& at, std::size_t end, bool all,
                         Reading& reading);
  static void read_run(const Bytes& bytes, std::size_t& at, std::size_t end, bool all,
                       Reading& reading);
  void leave_out(Reading& reading) const;
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
  bool first_ = true;              // no token is in the text yet
  std::int64_t left_out_ = 0;      // what may still be left out where the text begins
  std::string bytes_;              // of the tokens, from the first that is held back
  std::vector<Mark> marks_;        // of each byte
  std::vector<bool> byte_tokens_;  // of each byte: it is a token such as <0x0A>
};

}  // namespace sluice::launcher
