// What the help texts say: CLI11 lays them out (cli.cc). What a flag of `generate` means comes from
// the schema where it has a key.
#pragma once

#include <string>
#include <vector>

namespace sluice::launcher {

struct FlagHelp {
  std::string flag;          // "--model", or with other names: "--model,--path"
  std::string value;         // "DIR|ID"; empty: the flag takes none
  std::string meaning = {};  // one line
};

struct FlagGroup {
  std::string title;
  std::vector<FlagHelp> flags;
};

/// How the command is called, with examples.
std::string main_usage();
std::string generate_usage();
std::string inspect_usage();
std::string tokenize_usage();

/// The flags of each command but --help, in the order in which they are shown.
std::vector<FlagGroup> generate_flags();
std::vector<FlagGroup> inspect_flags();
std::vector<FlagGroup> tokenize_flags();

/// The end of every help text.
std::string exit_statuses();

/// `text` in lines of at most `width` characters, where it has blanks.
std::string wrapped(const std::string& text, std::size_t width);

}  // namespace sluice::launcher
