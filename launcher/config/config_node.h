// A configuration as it was written, with the place of every value. It is read from YAML, or made
// of flags. config_schema.h says which keys and values are allowed.
#pragma once

#include <string>
#include <vector>

namespace sluice::launcher {

/// Line and column count from 1; a flag has neither.
struct ConfigPlace {
  int line = 0;
  int column = 0;
};

struct ConfigNode {
  enum class Kind { nothing, scalar, sequence, map };
  Kind kind = Kind::nothing;
  std::string text;     // of a scalar
  bool quoted = false;  // a scalar in quotes is text, whatever it looks like
  ConfigPlace place;
  std::string flag;               // "--threads", where it comes from the command line
  std::vector<ConfigNode> items;  // of a sequence or a map, in the order written
  std::string key;                // of an item of a map
  ConfigPlace key_place;
};

/// The node's value as the end of a sentence: "not 'two'".
std::string shown(const ConfigNode& node);

/// All problems are collected, so that a user can mend a file in one go.
struct ConfigProblem {
  ConfigPlace place;
  std::string sentence;
};
using ConfigProblems = std::vector<ConfigProblem>;

}  // namespace sluice::launcher
