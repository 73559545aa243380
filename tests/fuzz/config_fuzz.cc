// A run's YAML of any bytes: refused, with every problem on a line, or a configuration that is the
// same when it is printed and read again.
#include <string>

#include "launcher/config/config_yaml.h"
#include "tests/fuzz/refusal.h"

namespace {

namespace fuzz = sluice::fuzz;
using sluice::launcher::RunConfig;

RunConfig read(const std::string& text) {
  RunConfig config;
  sluice::launcher::read_config_text(text, "fuzz.yaml", config);
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  RunConfig config;
  const bool good = fuzz::accepts_lines(sluice::ExitStatus::usage, [&] { config = read(text); });
  if (!good) return 0;
  const std::string printed = to_yaml(config);
  const RunConfig again = read(printed);
  fuzz::require(to_yaml(again) == printed, "a configuration is another when printed again");
  fuzz::require(config_digest(again) == config_digest(config), "ranks would not agree on it");
  for (const std::string& problem : contradictions(config, true)) fuzz::check_sentence(problem);
  return 0;
}
