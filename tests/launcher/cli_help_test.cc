#include "launcher/config/cli_help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "launcher/config/config_schema.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

TEST(CliHelp, ShowsEveryFlagOnce) {
  std::vector<std::string> shown = flags_in_help();
  std::vector<std::string> known = {"--config", "--print-config", "--dry-run", "--help",
                                    "--compress-cache"};
  for (const KeyDescription& key : describe_keys()) {
    const std::string flag = key.flags.substr(0, key.flags.find(','));
    if (!flag.empty() && std::find(known.begin(), known.end(), flag) == known.end()) {
      known.push_back(flag);
    }
  }
  EXPECT_THAT(shown, testing::UnorderedElementsAreArray(known));
}

TEST(CliHelp, FitsATerminal) {
  for (const std::string& help : {main_help(), generate_help(), inspect_help(), tokenize_help()}) {
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
    EXPECT_THAT(help, HasSubstr("Exit status:"));
    EXPECT_THAT(help, HasSubstr("Example"));
  }
}

}  // namespace
}  // namespace sluice::launcher
