#include "launcher/tokenizer/json_problem.h"

namespace sluice::launcher {

std::string json_problem(std::string_view what) {
  const std::size_t bracket = what.find("] ");
  if (what.starts_with("[json.exception") && bracket != std::string_view::npos) {
    what.remove_prefix(bracket + 2);
  }
  return std::string(what);
}

}  // namespace sluice::launcher
