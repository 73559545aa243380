#include "launcher/config/cli_help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "launcher/config/cli.h"
#include "launcher/config/commands/pages.h"
#include "launcher/config/config_schema.h"

namespace sluice::launcher {
namespace {

using testing::HasSubstr;

std::string help_of(const char* command) {
  const char* const words[] = {"sluice", command, "--help"};
  return *command == '\0' ? parse_command_line(2, std::array{words[0], words[2]}.data()).text
                          : parse_command_line(3, words).text;
}

TEST(CliHelp, ShowsEveryFlagOnce) {
  std::vector<std::string> shown;
  for (const FlagGroup& group : generate_page().flags()) {
    for (const FlagHelp& help : group.flags) {
      shown.push_back(help.flag);
      EXPECT_NE(help.meaning, "") << help.flag;
    }
  }
  std::vector<std::string> known = {"--config", "--print-config", "--dry-run", "--schedule",
                                    "--compress-cache"};
  for (const KeyDescription& key : describe_keys()) {
    if (!key.flags.empty() && std::find(known.begin(), known.end(), key.flags) == known.end()) {
      known.push_back(key.flags);
    }
  }
  EXPECT_THAT(shown, testing::UnorderedElementsAreArray(known));
  const std::string text = help_of("generate");
  for (const std::string& flag : shown) EXPECT_THAT(text, HasSubstr("\n  " + flag));
  EXPECT_THAT(text, HasSubstr("\n  -h,--help               print this\n"));
}

TEST(CliHelp, FitsATerminal) {
  std::vector<const char*> commands = {""};
  for (const CommandPage* page : command_pages()) commands.push_back(page->name);
  for (const char* command : commands) {
    const std::string help = help_of(command);
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
    EXPECT_THAT(help, HasSubstr("Exit status:"));
    EXPECT_THAT(help, HasSubstr("Example"));
    EXPECT_THAT(help, testing::Not(HasSubstr("\n\n\n")));
    EXPECT_THAT(help, testing::Not(HasSubstr(" \n")));
  }
}

TEST(CliHelp, WrapsAtBlanks) {
  EXPECT_EQ(wrapped("", 10), "");
  EXPECT_EQ(wrapped("one two three", 7), "one two\nthree");
  EXPECT_EQ(wrapped("longer-than-that a", 7), "longer-than-that\na");
}

TEST(CommandLineText, IsReadBackByAShell) {
  const char* words[] = {"sluice", "--prompt", "it's two words", "--stop", "", "a=b"};
  EXPECT_EQ(command_line_text(6, words), "sluice --prompt 'it'\\''s two words' --stop '' a=b");
}

}  // namespace
}  // namespace sluice::launcher
