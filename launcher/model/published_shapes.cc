#include "launcher/model/published_shapes.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "launcher/config/nearest_name.h"
#include "launcher/model/published_table.h"

namespace sluice::launcher {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// "a{,-b,-c}d": "ad", "a-bd", "a-cd". At most one pair of braces.
std::vector<std::string> expanded(std::string_view pattern) {
  const std::size_t open = pattern.find('{');
  if (open == std::string_view::npos) return {std::string(pattern)};
  const std::size_t close = pattern.find('}', open);
  std::vector<std::string> names;
  for (std::size_t at = open + 1; at <= close;) {
    const std::size_t end = std::min(pattern.find(',', at), close);
    names.push_back(std::string(pattern.substr(0, open)) +
                    std::string(pattern.substr(at, end - at)) +
                    std::string(pattern.substr(close + 1)));
    at = end + 1;
  }
  return names;
}

std::string_view without_owner(std::string_view name) {
  return name.substr(name.find('/') + 1);  // npos + 1: all of it
}

/// As a config.json.
std::string config_of(const PublishedFamily& family, const PublishedModel& model) {
  std::string config = std::string("{") + family.keys;
  std::istringstream columns{std::string(family.columns)};
  std::istringstream numbers{std::string(model.numbers)};
  std::string key;
  for (std::string number; numbers >> number && columns >> key;) {
    config += ", \"" + key + "\": " + number;
  }
  if (*model.keys != '\0') config += std::string(", ") + model.keys;
  return config + family.end + "}";
}

}  // namespace

std::optional<PublishedShape> find_published_shape(std::string_view name) {
  const std::string wanted = lower(name);
  for (const PublishedModel& model : published_models()) {
    const PublishedFamily& family = published_families()[model.family];
    for (const std::string& known : expanded(model.names)) {
      const std::string compared = lower(known);
      const bool is_short = family.has_short_names && without_owner(compared) == wanted;
      if (compared == wanted || is_short) return PublishedShape{known, config_of(family, model)};
    }
  }
  return std::nullopt;
}

std::vector<std::string> published_names() {
  std::vector<std::string> names;
  for (const PublishedModel& model : published_models()) {
    const std::vector<std::string> some = expanded(model.names);
    names.insert(names.end(), some.begin(), some.end());
  }
  return names;
}

std::string published_suggestion(std::string_view name) {
  const std::vector<std::string> names = published_names();
  if (name.find('/') != std::string_view::npos) return suggestion(name, names);
  std::vector<std::string> short_names;
  for (const std::string& one : names) short_names.emplace_back(without_owner(one));
  const std::string nearest = nearest_name(name, short_names);
  const auto found = std::find(short_names.begin(), short_names.end(), nearest);
  if (found == short_names.end()) return {};
  return "; did you mean '" + names[static_cast<std::size_t>(found - short_names.begin())] + "'?";
}

}  // namespace sluice::launcher
