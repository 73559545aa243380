// A tokenizer.json and a text, of any bytes: refused with an InputError, or done within the bounds
// that libFuzzer is given for time and memory, with ids of the vocabulary and texts of valid UTF-8.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/tokenizer/stream_decoder.h"
#include "launcher/tokenizer/tokenizer.h"
#include "launcher/tokenizer/tokenizer_facts.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/fuzz/halves.h"

namespace {

using sluice::launcher::Tokenizer;
using Ids = std::vector<std::int32_t>;

void require(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "fuzz_tokenizer: " << what << '\n';
  std::abort();
}

Tokenizer open(std::string_view file) {
  sluice::launcher::Vocabulary vocabulary;
  sluice::launcher::read_tokenizer_json(std::string(file), "tokenizer.json", vocabulary);
  vocabulary.table_size = vocabulary.size;
  return Tokenizer(std::move(vocabulary));
}

void check_decoding(const Tokenizer& tokenizer, const Ids& ids) {
  for (const bool skip_special : {false, true}) {
    const std::string text = tokenizer.decode(ids, skip_special);
    require(sluice::launcher::is_valid_utf8(text), "a decoded text is no UTF-8");
    sluice::launcher::StreamDecoder stream(tokenizer, {}, skip_special);
    std::string given;
    for (const std::int32_t id : ids) given += stream.push(id);
    require(given + stream.finish() == text, "a stream differs from the text");
  }
}

void check(const Tokenizer& tokenizer, std::string_view text) {
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [file, text] = sluice::fuzz::halves(data, size);
  try {
    check(open(file), text);
  } catch (const sluice::InputError&) {
    // one sentence, as a user would see it
  }
  return 0;
}
