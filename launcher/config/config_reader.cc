#include "launcher/config/config_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/device/error.h"
#include "launcher/config/duration.h"
#include "launcher/config/nearest_name.h"
#include "launcher/config/sizes.h"

namespace sluice::launcher {

namespace {

using Kind = ConfigNode::Kind;

/// -?(0|[1-9][0-9]*): no octal, no hexadecimal, no sign in front of a positive one.
bool is_plain_integer(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_plain_number(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return end == text.data() + text.size() && error != std::errc::invalid_argument;
}

/// Words that YAML 1.1 does not read as text.
bool is_reserved_word(std::string_view text) {
  static constexpr std::string_view kWords[] = {"true", "false", "yes", "no",   "on",   "off",
                                                "null", "~",     "nan", ".nan", ".inf", "-.inf"};
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return std::find(std::begin(kWords), std::end(kWords), lower) != std::end(kWords);
}

class Reader final : public SchemaVisitor {
 public:
  Reader(const ConfigNode& root, std::string path, std::string prefix, ConfigProblems& problems)
      : prefix_(std::move(prefix)), problems_(problems) {
    frames_.push_back({&root, std::move(path), {}});
  }

  bool enter(const ConfigKey& section) override {
    const ConfigNode* node = find(section.name);
    if (node == nullptr) return false;
    if (node->kind != Kind::map) {
      refuse(*node, section.name, fmt::format("must be a map of keys, not {}", shown(*node)));
      return false;
    }
    frames_.push_back({node, path_of(section.name), {}});
    return true;
  }

  void leave() override {
    finish();
    frames_.pop_back();
  }

  /// Keys of the innermost map that nobody asked for.
  void finish() {
    const Frame& frame = frames_.back();
    for (const ConfigNode& item : frame.node->items) {
      if (std::find(frame.known.begin(), frame.known.end(), item.key) != frame.known.end())
        continue;
      std::string sentence = item.key == "<<"
                                 ? std::string("merge keys are not supported; write the keys out")
                                 : "unknown key" + suggestion(item.key, frame.known);
      add(item.key_place, item.flag, path_of(item.key), sentence);
    }
  }

  void text(const ConfigKey& key, std::string& value) override {
    if (const ConfigNode* node = find(key.name)) read_text(*node, key.name, value);
  }

  void boolean(const ConfigKey& key, bool& value) override {
    const ConfigNode* node = scalar(key, "true or false");
    if (node == nullptr) return;
    if (!node->quoted && (node->text == "true" || node->text == "false")) {
      value = node->text == "true";
    } else {
      refuse(*node, key.name, fmt::format("must be true or false, not {}", shown(*node)));
    }
  }

  void integer(const ConfigKey& key, std::int64_t& value, IntegerRange range) override {
    if (const ConfigNode* node = find(key.name)) read_integer(*node, key.name, value, range);
  }

  void real(const ConfigKey& key, double& value, RealRange range) override {
    const ConfigNode* node = scalar(key, "a number");
    if (node == nullptr) return;
    double number = 0;
    const char* const end = node->text.data() + node->text.size();
    const auto result = std::from_chars(node->text.data(), end, number);
    const bool above = range.open_below ? number > range.lowest : number >= range.lowest;
    if (node->quoted || result.ec != std::errc() || result.ptr != end || !std::isfinite(number)) {
      refuse(*node, key.name, fmt::format("must be a number, not {}", shown(*node)));
    } else if (!above || number > range.highest) {
      refuse(*node, key.name,
             fmt::format("must be {} {} and at most {}, not {}",
                         range.open_below ? "more than" : "at least", range.lowest, range.highest,
                         shown(*node)));
    } else {
      value = number;
    }
  }

  void size(const ConfigKey& key, std::uint64_t& bytes) override {
    const ConfigNode* node = scalar(key, "a size such as 16GiB");
    if (node == nullptr) return;
    try {
      bytes = parse_size(node->text);
    } catch (const ConfigError& error) {
      refuse(*node, key.name, error.what());
    }
  }

  void duration(const ConfigKey& key, std::int64_t& seconds) override {
    const ConfigNode* node = scalar(key, "a duration such as 11h50m");
    if (node == nullptr) return;
    try {
      seconds = parse_duration(node->text);
    } catch (const ConfigError& error) {
      refuse(*node, key.name, error.what());
    }
  }

  void choice(const ConfigKey& key, int& index, std::span<const char* const> names) override {
    const std::string wanted = fmt::format("one of {}", fmt::join(names, ", "));
    const ConfigNode* node = scalar(key, wanted.c_str());
    if (node == nullptr) return;
    const auto found = std::find(names.begin(), names.end(), node->text);
    if (found != names.end()) {
      index = static_cast<int>(found - names.begin());
      return;
    }
    const std::vector<std::string> known(names.begin(), names.end());
    refuse(
        *node, key.name,
        fmt::format("must be {}, not {}{}", wanted, shown(*node), suggestion(node->text, known)));
  }

  void shares(const ConfigKey& key, offload::Shares& value) override {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return;
    offload::Shares read{0, 0, 0};
    const std::size_t before = problems_.size();
    if (node->kind == Kind::map) {
      frames_.push_back({node, path_of(key.name), {}});
      real({"device", ""}, read.device, {0, 100});
      real({"host", ""}, read.host, {0, 100});
      real({"disk", ""}, read.disk, {0, 100});
      leave();
    } else if (node->kind == Kind::sequence && node->items.size() == 3) {
      double* const parts[] = {&read.device, &read.host, &read.disk};
      for (std::size_t i = 0; i < 3; ++i) {
        read_share(node->items[i], fmt::format("{}[{}]", key.name, i), *parts[i]);
      }
    } else {
      refuse(*node, key.name,
             fmt::format("must be three shares in percent, [device, host, disk], "
                         "not {}",
                         shown_list(*node)));
    }
    if (problems_.size() != before) return;
    const double sum = read.device + read.host + read.disk;
    if (std::abs(sum - 100) > 1e-6) {
      refuse(*node, key.name,
             fmt::format("the shares of device, host and disk ({}, {}, {}) must add "
                         "up to 100, not {:.6g}",
                         read.device, read.host, read.disk, sum));
    } else {
      value = read;
    }
  }

  void texts(const ConfigKey& key, std::vector<std::string>& value, std::size_t most) override {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return;
    std::vector<std::string> read;
    for_items(*node, [&](const ConfigNode& item, const std::string& name) {
      std::string text;
      read_text(item, name, text);
      if (item.kind == Kind::scalar && text.empty()) refuse(item, name, "must not be empty");
      read.push_back(std::move(text));
    });
    if (read.size() > most) {
      refuse(*node, key.name,
             fmt::format("has {} items, but at most {} are allowed", read.size(), most));
    }
    value = std::move(read);
  }

  void integers(const ConfigKey& key, std::vector<std::int32_t>& value,
                IntegerRange range) override {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return;
    std::vector<std::int32_t> read;
    for_items(*node, [&](const ConfigNode& item, const std::string& name) {
      std::int64_t number = 0;
      read_integer(item, name, number, range);
      read.push_back(static_cast<std::int32_t>(number));
    });
    value = std::move(read);
  }

  void layers(const ConfigKey& key, stage::StageConfig& stage) override;
  void stages(const ConfigKey& key, std::vector<stage::StageConfig>& stages,
              const stage::StageConfig& defaults) override;

 private:
  struct Frame {
    const ConfigNode* node;
    std::string path;
    std::vector<std::string> known;  // keys that were asked for
  };

  std::string path_of(const std::string& name) const {
    const std::string& path = frames_.back().path;
    return path.empty() ? name : path + "." + name;
  }

  const ConfigNode* find(const char* name) {
    Frame& frame = frames_.back();
    frame.known.emplace_back(name);
    for (const ConfigNode& item : frame.node->items) {
      if (item.key == name) return &item;
    }
    return nullptr;
  }

  /// Null, and a problem, where the key is there but is no scalar.
  const ConfigNode* scalar(const ConfigKey& key, const char* wanted) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr || node->kind == Kind::scalar) return node;
    refuse(*node, key.name, fmt::format("must be {}, not {}", wanted, shown(*node)));
    return nullptr;
  }

  static std::string shown_list(const ConfigNode& node) {
    return node.kind == Kind::sequence ? fmt::format("a list of {}", node.items.size())
                                       : shown(node);
  }

  template <typename Function>
  void for_items(const ConfigNode& node, Function function) {
    if (node.kind != Kind::sequence) {
      refuse(node, node.key, fmt::format("must be a list, [a, b], not {}", shown(node)));
      return;
    }
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      function(node.items[i], fmt::format("{}[{}]", node.key, i));
    }
  }

  void read_text(const ConfigNode& node, const std::string& name, std::string& value) {
    if (node.kind != Kind::scalar) {
      refuse(node, name, fmt::format("must be text, not {}", shown(node)));
    } else if (node.flag.empty() && !node.quoted &&
               (is_plain_number(node.text) || is_reserved_word(node.text))) {
      refuse(
          node, name,
          fmt::format("must be text, not {}; if you mean the text, put it in quotes", shown(node)));
    } else {
      value = node.text;
    }
  }

  void read_integer(const ConfigNode& node, const std::string& name, std::int64_t& value,
                    IntegerRange range) {
    std::int64_t number = 0;
    const char* const end = node.text.data() + node.text.size();
    const bool plain = node.kind == Kind::scalar && !node.quoted && is_plain_integer(node.text);
    if (!plain) {
      refuse(node, name, fmt::format("must be a whole number, not {}", shown(node)));
    } else if (std::from_chars(node.text.data(), end, number).ec != std::errc() ||
               number < range.lowest || number > range.highest) {
      refuse(node, name,
             fmt::format("must be a whole number from {} to {}, not {}", range.lowest,
                         range.highest, shown(node)));
    } else {
      value = number;
    }
  }

  void read_share(const ConfigNode& node, const std::string& name, double& value) {
    ConfigNode parent;
    parent.kind = Kind::map;
    parent.items.push_back(node);
    parent.items.back().key = name;
    frames_.push_back({&parent, frames_.back().path, {}});
    real({name.c_str(), ""}, value, {0, 100});
    frames_.pop_back();
  }

  void refuse(const ConfigNode& node, const std::string& name, const std::string& sentence) {
    add(node.place, node.flag, path_of(name), sentence);
  }

  void add(ConfigPlace place, const std::string& flag, const std::string& path,
           const std::string& sentence) {
    problems_.push_back({place, flag.empty() ? fmt::format("{}{}:{}: key '{}': {}", prefix_,
                                                           place.line, place.column, path, sentence)
                                             : fmt::format("{}: {}", flag, sentence)});
  }

  std::string prefix_;
  ConfigProblems& problems_;
  std::vector<Frame> frames_;
};

void Reader::layers(const ConfigKey& key, stage::StageConfig& stage) {
  constexpr IntegerRange kCount = {1, 100000};
  const ConfigNode* node = scalar(key, "a number of layers, or a range such as 0-11");
  if (node == nullptr) return;
  const std::size_t dash = node->text.find('-', 1);
  std::int64_t first = 0;
  std::int64_t count = 0;
  if (dash == std::string::npos) {
    read_integer(*node, key.name, count, kCount);
    stage.first_layer = -1;  // after the stage before: stages() knows
    stage.layers = static_cast<std::int32_t>(count);
    return;
  }
  const std::string_view text = node->text;
  const std::string_view from = text.substr(0, dash);
  const std::string_view to = text.substr(dash + 1);
  std::int64_t last = -1;
  const auto parsed = [](std::string_view part, std::int64_t& number) {
    return is_plain_integer(part) && part.front() != '-' &&
           std::from_chars(part.data(), part.data() + part.size(), number).ec == std::errc();
  };
  if (!parsed(from, first) || !parsed(to, last) || last < first || last >= kCount.highest) {
    refuse(*node, key.name,
           fmt::format("must be a range of layers, first-last as in 0-11, not {}", shown(*node)));
    return;
  }
  stage.first_layer = static_cast<std::int32_t>(first);
  stage.layers = static_cast<std::int32_t>(last - first + 1);
}

void Reader::stages(const ConfigKey& key, std::vector<stage::StageConfig>& stages,
                    const stage::StageConfig& defaults) {
  const ConfigNode* node = find(key.name);
  if (node == nullptr) return;
  std::vector<stage::StageConfig> read;
  std::int64_t next_layer = 0;
  for_items(*node, [&](const ConfigNode& item, const std::string& name) {
    stage::StageConfig stage = defaults;
    if (item.kind != Kind::map) {
      refuse(item, name, fmt::format("must be a map of keys, not {}", shown(item)));
      return;
    }
    frames_.push_back({&item, path_of(name), {}});
    const std::size_t before = problems_.size();
    layers({"layers", ""}, stage);
    const bool sound = problems_.size() == before;
    describe_stage(*this, stage);
    leave();
    if (sound && !read.empty() && (stage.layers == 0) != (read.front().layers == 0)) {
      refuse(item, name, "either every stage says its layers, or none does");
    } else if (sound && stage.layers > 0 && stage.first_layer >= 0 &&
               stage.first_layer != next_layer) {
      refuse(item, name,
             fmt::format("begins with layer {}, but must begin with layer {}, where the "
                         "stage before it ends",
                         stage.first_layer, next_layer));
    }
    if (next_layer + stage.layers > std::numeric_limits<std::int32_t>::max()) {
      refuse(item, name, "the stages have more layers than any model");
      return;
    }
    stage.first_layer = stage.layers > 0 ? static_cast<std::int32_t>(next_layer) : 0;
    next_layer += stage.layers;
    read.push_back(std::move(stage));
  });
  stages = std::move(read);
}

}  // namespace

namespace {

/// The keys that have values. Items of a list of maps count alike.
void collect_said(const ConfigNode& node, const std::string& path, std::set<std::string>& said) {
  bool has_maps = false;
  for (const ConfigNode& item : node.items) {
    if (node.kind == Kind::map) {
      collect_said(item, path.empty() ? item.key : path + "." + item.key, said);
    } else if (item.kind == Kind::map) {
      collect_said(item, path, said);
    }
    has_maps = has_maps || item.kind == Kind::map;
  }
  if (node.kind != Kind::map && !has_maps && !path.empty()) said.insert(path);
}

}  // namespace

void read_config(const ConfigNode& root, const std::string& prefix, RunConfig& config,
                 ConfigProblems& problems) {
  Reader reader(root, "", prefix, problems);
  describe(reader, config);
  reader.finish();
  collect_said(root, "", config.said);
  for (const ConfigNode& item : root.items) {
    if (item.key != "generation") continue;
    for (const ConfigNode& said : item.items) config.generation.said.insert(said.key);
  }
}

void read_stage(const ConfigNode& root, const std::string& prefix, stage::StageConfig& stage,
                ConfigProblems& problems) {
  Reader reader(root, "stage_defaults", prefix, problems);
  describe_stage(reader, stage);
  reader.finish();
}

void refuse_problems(ConfigProblems problems) {
  if (problems.empty()) return;
  std::stable_sort(problems.begin(), problems.end(), [](const auto& one, const auto& other) {
    return std::pair(one.place.line, one.place.column) <
           std::pair(other.place.line, other.place.column);
  });
  std::string all;
  for (const ConfigProblem& problem : problems) {
    all += (all.empty() ? "" : "\n") + problem.sentence;
  }
  throw ConfigError(all);
}

}  // namespace sluice::launcher
