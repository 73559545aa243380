#include "launcher/config/flag_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace sluice::launcher {

namespace {

ConfigNode scalar_node(const Flag& flag, std::string text) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::scalar;
  node.flag = flag.name;
  node.text = std::move(text);
  return node;
}

/// Puts `node` where `path` says, making the maps on the way.
void put(ConfigNode& root, const std::string& path, ConfigNode node) {
  root.kind = ConfigNode::Kind::map;
  const std::size_t dot = path.find('.');
  const std::string key = path.substr(0, dot);
  if (dot == std::string::npos) {
    node.key = key;
    root.items.push_back(std::move(node));
    return;
  }
  auto child = std::find_if(root.items.begin(), root.items.end(),
                            [&](const ConfigNode& item) { return item.key == key; });
  if (child == root.items.end()) {
    child = root.items.emplace(root.items.end());
    child->key = key;
    child->flag = node.flag;
  }
  put(*child, path.substr(dot + 1), std::move(node));
}

/// Replaces \n, \t, \r and \\, since shells pass them on as they are.
std::string unescaped(const Flag& flag, const std::string& text,
                      std::vector<std::string>& problems) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char next = i + 1 < text.size() ? text[++i] : '\0';
    constexpr std::string_view kLetters = "ntr\\";
    constexpr std::string_view kMeant = "\n\t\r\\";
    const std::size_t found = kLetters.find(next);
    if (next == '\0' || found == std::string_view::npos) {
      problems.push_back(
          fmt::format("{}: '{}' has a backslash that is not \\n, \\t, \\r or \\\\; "
                      "write \\\\ for a backslash",
                      flag.name, text));
      return text;
    }
    out += kMeant[found];
  }
  return out;
}

/// FlexGen's six numbers: device and host of weights, cache, activations; the rest is disk.
void put_percent(ConfigNode& root, const Flag& flag, std::vector<std::string>& problems) {
  static constexpr const char* kNames[] = {"weights", "cache", "activations"};
  if (flag.values.size() != kPercentValues) {
    problems.push_back(
        fmt::format("--percent: needs six numbers, W_gpu W_cpu C_gpu C_cpu A_gpu A_cpu, but got {}",
                    flag.values.size()));
    return;
  }
  for (std::size_t i = 0; i < 3; ++i) {
    double shares[3] = {};
    for (std::size_t part = 0; part < 2; ++part) {
      const std::string& text = flag.values[2 * i + part];
      const char* const end = text.data() + text.size();
      const auto result = std::from_chars(text.data(), end, shares[part]);
      if (result.ec != std::errc() || result.ptr != end ||
          !(shares[part] >= 0 && shares[part] <= 100)) {
        problems.push_back(
            fmt::format("--percent: each of its six numbers must be from 0 to 100, "
                        "not '{}' (number {})",
                        text, 2 * i + part + 1));
        return;
      }
    }
    shares[2] = 100 - shares[0] - shares[1];
    if (shares[2] < -1e-9) {
      problems.push_back(
          fmt::format("--percent: {} on the GPU ({}) and in host memory ({}) add up to "
                      "{}, more than 100",
                      kNames[i], shares[0], shares[1], shares[0] + shares[1]));
      continue;
    }
    ConfigNode list;
    list.kind = ConfigNode::Kind::sequence;
    list.flag = flag.name;
    for (const double share : shares) {
      list.items.push_back(scalar_node(flag, fmt::format("{}", std::max(share, 0.0))));
    }
    put(root, fmt::format("stage_defaults.policy.{}", kNames[i]), std::move(list));
  }
}

/// --compress-cache is another way to say --cache-dtype, in FlexGen's words.
std::string cache_dtype_of(const Flags& flags, const Flag& flag,
                           std::vector<std::string>& problems) {
  if (std::ranges::any_of(
          flags, [](const auto& other) { return other->name == kCacheDType && other->given; })) {
    problems.push_back(fmt::format("{} and {} both say what the KV cache is made of: give one",
                                   kCompressCache, kCacheDType));
  }
  const std::string& value = flag.values.front();
  if (value == "4bit") return "q4";
  if (value == "8bit") return "q8";
  problems.push_back(fmt::format("{}: '{}' is neither 4bit nor 8bit; see {} for what else there is",
                                 kCompressCache, value, kCacheDType));
  return "auto";
}

}  // namespace

bool is_on_unless_told(std::string_view flag) {
  return flag == "--pin-weight" || flag == "--overlap" || flag == "--skip-special-tokens" ||
         flag == "--draft-adapts";
}

ConfigNode tree_of(const Flags& flags, std::vector<std::string>& problems) {
  ConfigNode root;
  root.kind = ConfigNode::Kind::map;
  for (const auto& entry : flags) {
    const Flag& flag = *entry;
    if (!flag.given) continue;
    if (flag.name == "--percent") {
      put_percent(root, flag, problems);
    } else if (flag.path.empty()) {
      continue;
    } else if (flag.is_list) {
      ConfigNode list;
      list.kind = ConfigNode::Kind::sequence;
      list.flag = flag.name;
      for (const std::string& value : flag.values) {
        list.items.push_back(
            scalar_node(flag, flag.name == "--stop" ? unescaped(flag, value, problems) : value));
      }
      put(root, flag.path, std::move(list));
    } else if (flag.is_boolean) {
      put(root, flag.path, scalar_node(flag, "true"));
    } else {
      std::string value = flag.values.front();
      if (is_on_unless_told(flag.name) && (value == "0" || value == "1")) {
        value = value == "1" ? "true" : "false";
      }
      if (flag.name == kCompressCache) value = cache_dtype_of(flags, flag, problems);
      put(root, flag.path, scalar_node(flag, std::move(value)));
    }
  }
  return root;
}

}  // namespace sluice::launcher
