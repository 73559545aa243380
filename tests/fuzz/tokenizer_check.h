// What holds of every tokenizer, whatever file it came from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokenizer/stream_decoder.h"
#include "launcher/tokenizer/tokenizer.h"
#include "launcher/tokenizer/tokenizer_facts.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/fuzz/refusal.h"

namespace sluice::fuzz {

using launcher::Tokenizer;
using Ids = std::vector<std::int32_t>;

inline void check_decoding(const Tokenizer& tokenizer, const Ids& ids) {
  for (const bool skip_special : {false, true}) {
    const std::string text = tokenizer.decode(ids, skip_special);
    require(launcher::is_valid_utf8(text), "a decoded text is no UTF-8");
    launcher::StreamDecoder stream(tokenizer, {}, skip_special);
    std::string given;
    for (const std::int32_t id : ids) given += stream.push(id);
    require(given + stream.finish() == text, "a stream differs from the text");
  }
}

/// Encodes `text` to ids of the vocabulary, and decodes these and others to valid UTF-8. Throws
/// InputError for a text that the tokenizer refuses.
inline void check_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  static_cast<void>(explain_tokenizer(tokenizer));
  const Ids ids = tokenizer.encode(text);
  for (const std::int32_t id : ids) {
    require(id >= 0 && id < tokenizer.size(), "an id is outside the vocabulary");
  }
  check_decoding(tokenizer, ids);
  Ids any;  // ids that no text becomes
  for (const char byte : text.substr(0, 200)) {
    any.push_back(static_cast<unsigned char>(byte) % tokenizer.size());
  }
  check_decoding(tokenizer, any);
}

}  // namespace sluice::fuzz
