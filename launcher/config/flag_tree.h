// The flags of a command line as a tree of keys, so that one reader checks flags and YAML alike.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config/config_node.h"

namespace sluice::launcher {

/// A flag as it was given. All values are text: read_config() checks them by the schema.
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

/// --percent takes FlexGen's six numbers.
constexpr std::size_t kPercentValues = 6;
constexpr const char* kCacheDType = "--cache-dtype";
constexpr const char* kCompressCache = "--compress-cache";

/// A switch whose default is on: it takes a value, as in FlexGen's --pin-weight 0.
bool is_on_unless_told(std::string_view flag);

/// The given flags, for read_config(). Adds a sentence to `problems` for each that is wrong.
ConfigNode tree_of(const Flags& flags, std::vector<std::string>& problems);

}  // namespace sluice::launcher
