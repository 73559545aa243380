#include "launcher/config/commands/pages.h"

namespace sluice::launcher {

const std::vector<const CommandPage*>& command_pages() {
  static const std::vector<const CommandPage*> pages = {
      &generate_page(),  &serve_page(), &chat_page(),     &score_page(),
      &launch_page(),    &plan_page(),  &simulate_page(), &inspect_page(),
      &calibrate_page(), &bench_page(), &tokenize_page(), &merge_page(),
  };
  return pages;
}

}  // namespace sluice::launcher
