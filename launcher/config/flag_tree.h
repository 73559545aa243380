// The flags of a command line as a tree of keys, so that the schema judges them as it does YAML's.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config/config_node.h"

namespace sluice::launcher {

/// A flag as it was given. All values are text here: the schema judges them, as it does YAML's.
struct Flag {
  std::string name;  // "--model"
  std::string path;  // of its key; empty: the flag has none
  bool takes_value = true;
  bool is_list = false;
  bool is_boolean = false;
  std::vector<std::string> values;
  bool given = false;
};

using Flags = std::vector<std::unique_ptr<Flag>>;

/// FlexGen's six numbers are one flag with so many values.
constexpr std::size_t kPercentValues = 6;
constexpr const char* kCacheDType = "--cache-dtype";
constexpr const char* kCompressCache = "--compress-cache";

/// Switches that are on take a value, as FlexGen's do: --pin-weight 0.
bool is_on_unless_told(std::string_view flag);

/// What the given flags say, for read_config(). Adds to `problems`.
ConfigNode tree_of(const Flags& flags, std::vector<std::string>& problems);

}  // namespace sluice::launcher
