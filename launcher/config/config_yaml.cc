#include "launcher/config/config_yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "kernels/device/error.h"
#include "launcher/config/config_reader.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {

namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::size_t kMostDepth = 64;

ConfigPlace place_of(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

/// Builds the tree from the parser's events rather than from YAML::Node, which drops the second of
/// two equal keys and expands aliases (a short file of aliases can be exponentially large).
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string name, ConfigProblems& problems)
      : name_(std::move(name)), problems_(problems) {}

  ConfigNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    put(scalar_at(mark, "?", anchor), ConfigNode::Kind::nothing);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases are not supported; write the value out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    ConfigNode node = scalar_at(mark, tag, anchor);
    node.quoted = tag == "!";
    node.text = value;
    // An empty plain scalar and the words for null are no text.
    const bool nothing = !node.quoted && (value.empty() || value == "~" || value == "null");
    put(std::move(node), nothing ? ConfigNode::Kind::nothing : ConfigNode::Kind::scalar);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(scalar_at(mark, tag, anchor), ConfigNode::Kind::sequence);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(scalar_at(mark, tag, anchor), ConfigNode::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    ConfigNode node;
    bool has_key = false;  // of a map: the next value belongs to `key`
    std::string key;
    ConfigPlace key_place;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& sentence) const {
    throw ConfigError(fmt::format("{}:{}:{}: {}", name_, mark.line + 1, mark.column + 1, sentence));
  }

  ConfigNode scalar_at(const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor) const {
    if (anchor != 0) fail(mark, "anchors are not supported; write the value where it is used");
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail(mark, fmt::format("tags are not supported (found '{}')", offload::printable(tag)));
    }
    ConfigNode node;
    node.place = place_of(mark);
    return node;
  }

  /// A complete value, or a map's key.
  void put(ConfigNode node, ConfigNode::Kind kind) {
    node.kind = kind;
    if (levels_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = levels_.back();
    if (level.node.kind == ConfigNode::Kind::map) {
      if (!level.has_key) {
        take_key(level, node);
        return;
      }
      node.key = level.key;
      node.key_place = level.key_place;
      if (kind == ConfigNode::Kind::nothing) node.place = level.key_place;  // nothing has no place
      level.has_key = false;
    }
    level.node.items.push_back(std::move(node));
  }

  void take_key(Level& level, const ConfigNode& node) {
    // A key is part of sentences.
    if (node.kind != ConfigNode::Kind::scalar || offload::printable(node.text) != node.text) {
      throw ConfigError(
          fmt::format("{}:{}:{}: a key must be a word", name_, node.place.line, node.place.column));
    }
    level.has_key = true;
    level.key = node.text;
    level.key_place = node.place;
    const auto& items = level.node.items;
    const auto first = std::find_if(items.begin(), items.end(),
                                    [&](const ConfigNode& item) { return item.key == node.text; });
    if (first == items.end()) return;
    problems_.push_back(
        {node.place, fmt::format("{}:{}:{}: key '{}': given twice; the first is in line {}", name_,
                                 node.place.line, node.place.column, path_of(node.text),
                                 first->key_place.line)});
  }

  std::string path_of(const std::string& key) const {
    std::string path;
    for (std::size_t i = 0; i + 1 < levels_.size(); ++i) {
      const Level& level = levels_[i];
      if (level.node.kind == ConfigNode::Kind::sequence) {
        path += fmt::format("[{}]", level.node.items.size());
      } else {
        path += (path.empty() ? "" : ".") + level.key;
      }
    }
    return path.empty() ? key : path + "." + key;
  }

  void open(ConfigNode node, ConfigNode::Kind kind) {
    node.kind = kind;
    if (levels_.size() == kMostDepth) {
      throw ConfigError(fmt::format("{}:{}:{}: nested more than {} deep", name_, node.place.line,
                                    node.place.column, kMostDepth));
    }
    if (!levels_.empty() && levels_.back().node.kind == ConfigNode::Kind::map &&
        !levels_.back().has_key) {
      throw ConfigError(fmt::format("{}:{}:{}: a key must be a word, not a list or a map", name_,
                                    node.place.line, node.place.column));
    }
    levels_.push_back({std::move(node), false, {}, {}});
  }

  void close() {
    ConfigNode node = std::move(levels_.back().node);
    levels_.pop_back();
    const ConfigNode::Kind kind = node.kind;
    put(std::move(node), kind);
  }

  std::string name_;
  ConfigProblems& problems_;
  std::vector<Level> levels_;
  ConfigNode root_;
};

}  // namespace

ConfigNode read_yaml(const std::string& text, const std::string& name, ConfigProblems& problems) {
  if (text.size() > kMostBytes) {
    throw ConfigError(
        fmt::format("{}: larger than {} bytes: this is no configuration", name, kMostBytes));
  }
  if (text.find('\0') != std::string::npos) {
    throw ConfigError(
        fmt::format("{}: has a zero byte at offset {}: this is no YAML", name, text.find('\0')));
  }
  TreeBuilder builder(name, problems);
  TreeBuilder second(name, problems);
  try {
    // yaml-cpp misses an open quote at the end of a file if a line ends after it.
    std::istringstream stream(text.substr(0, text.find_last_not_of(" \t\r\n") + 1));
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    if (parser.HandleNextDocument(second)) {
      throw ConfigError(fmt::format("{}: has more than one document; keep the first", name));
    }
  } catch (const YAML::Exception& error) {
    throw ConfigError(fmt::format("{}:{}:{}: {}", name, error.mark.line + 1, error.mark.column + 1,
                                  offload::printable(error.msg)));
  }
  return builder.take();
}

std::string read_yaml_file(const std::filesystem::path& file, const std::string& wanted) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    throw ConfigError(fmt::format("{}: is a folder; {} needs a YAML file", file.string(), wanted));
  }
  std::ifstream stream(file, std::ios::binary);
  std::string text;
  if (stream) {
    text.resize(kMostBytes + 1);
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
  }
  if (!stream && !stream.eof()) {
    throw ConfigError(fmt::format("{}: cannot be read: {}; {} needs a YAML file", file.string(),
                                  std::strerror(errno), wanted));
  }
  return text;
}

void read_config_text(const std::string& text, const std::string& name, RunConfig& config) {
  ConfigProblems problems;
  const ConfigNode root = read_yaml(text, name, problems);
  if (root.kind != ConfigNode::Kind::map && root.kind != ConfigNode::Kind::nothing) {
    throw ConfigError(fmt::format("{}:{}:{}: must be a map of keys, 'model: ...'", name,
                                  root.place.line, root.place.column));
  }
  RunConfig read = config;
  read_config(root, name + ":", read, problems);
  refuse_problems(std::move(problems));
  config = std::move(read);
}

void read_config_file(const std::filesystem::path& file, RunConfig& config) {
  read_config_text(read_yaml_file(file, "--config"), file.string(), config);
}

}  // namespace sluice::launcher
