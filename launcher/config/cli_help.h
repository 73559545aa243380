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
  bool is_list = false;      // any number of values; for a name without dashes
};

struct FlagGroup {
  std::string title;
  std::vector<FlagHelp> flags;
};

/// How the program is called, with examples.
std::string main_usage();

/// The end of every help text.
std::string exit_statuses();

/// `text` in lines of at most `width` characters, where it has blanks.
std::string wrapped(const std::string& text, std::size_t width);

}  // namespace sluice::launcher
