// A chat template and the JSON of its variables, of any bytes: refused with a TemplateError, or
// rendered to valid UTF-8 within its limits.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "launcher/chat/jinja/template.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/fuzz/halves.h"

namespace jinja = sluice::launcher::jinja;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [source, values] = sluice::fuzz::halves(data, size);
  jinja::Limits limits;
  limits.steps = 200'000;  // so that a run is short
  limits.live_bytes = std::size_t{16} << 20;
  limits.output_bytes = std::size_t{1} << 20;
  try {
    auto variables = sluice::launcher::Json::parse_or_null(values);
    if (!variables.is_object()) variables = sluice::launcher::Json::object();
    const jinja::Template made(source, "fuzz");
    const std::chrono::system_clock::time_point now{std::chrono::seconds(1'000'000'000)};
    const std::string text = made.render(variables, now, limits);
    if (text.size() > limits.output_bytes || !sluice::launcher::is_valid_utf8(text)) {
      std::cerr << "fuzz_template: the text is too long, or no UTF-8: " << text << '\n';
      std::abort();
    }
  } catch (const jinja::TemplateError&) {
    // one sentence, as a user would see it
  }
  return 0;
}
