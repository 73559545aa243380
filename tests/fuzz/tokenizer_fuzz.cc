// A tokenizer.json and a text, of any bytes: refused with an InputError, or done within the bounds
// that libFuzzer is given for time and memory.
#include <string>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/vocabulary.h"
#include "tests/fuzz/halves.h"
#include "tests/fuzz/tokenizer_check.h"

namespace {

sluice::launcher::Tokenizer open(std::string_view file) {
  sluice::launcher::Vocabulary vocabulary;
  sluice::launcher::read_tokenizer_json(std::string(file), "tokenizer.json", vocabulary);
  vocabulary.table_size = vocabulary.size;
  return sluice::launcher::Tokenizer(std::move(vocabulary));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [file, text] = sluice::fuzz::halves(data, size);
  try {
    sluice::fuzz::check_tokenizer(open(file), text);
  } catch (const sluice::InputError&) {
    // one sentence, as a user would see it
  }
  return 0;
}
