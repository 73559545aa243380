// A machine file of any bytes, whole or a probe's: refused, with every problem on a line, or a
// machine that is the same, to six digits, when it is printed and read again.
#include <string>

#include "launcher/planner/machine_file.h"
#include "tests/fuzz/refusal.h"

namespace {

namespace fuzz = sluice::fuzz;
using sluice::launcher::Machine;
using sluice::launcher::MachineParts;

void check(const std::string& text, MachineParts parts) {
  Machine machine;
  const bool good = fuzz::accepts_lines(sluice::ExitStatus::usage, [&] {
    machine = sluice::launcher::read_machine_text(text, "fuzz.yaml", parts);
  });
  if (!good) return;
  // The first printing rounds, and may go on to a larger unit: the second is the same for ever.
  const auto again = [&](const std::string& printed) {
    return to_yaml(sluice::launcher::read_machine_text(printed, "again.yaml", parts), parts);
  };
  const std::string once = again(to_yaml(machine, parts));
  fuzz::require(again(once) == once, "a machine is another when printed again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check(text, MachineParts::any);
  check(text, MachineParts::all);
  return 0;
}
