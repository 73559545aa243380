// docs/configuration.md has a row for every key, as the schema says it, and no other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "launcher/config/config_schema.h"
#include "launcher/config/config_yaml.h"

namespace sluice::launcher {
namespace {

std::string code(const std::string& text) { return text.empty() ? "" : "`" + text + "`"; }

std::string row_of(const KeyDescription& key) {
  std::string flags;
  for (std::size_t at = 0; at < key.flags.size();) {
    const std::size_t comma = std::min(key.flags.find(',', at), key.flags.size());
    flags += (at > 0 ? ", " : "") + code(key.flags.substr(at, comma - at));
    at = comma + 1;
  }
  return "| `" + key.path + "` | " + key.form + " | " + code(key.fallback) + " | " + flags + " | " +
         key.meaning + " |";
}

std::vector<std::string> lines_of_docs() {
  std::ifstream file(SLUICE_SOURCE_DIR "/docs/configuration.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST(ConfigDocs, HaveARowForEveryKeyAndNoOther) {
  std::vector<std::string> expected;
  for (const KeyDescription& key : describe_keys()) expected.push_back(row_of(key));
  std::vector<std::string> rows;
  for (const std::string& line : lines_of_docs()) {
    if (line.starts_with("| `")) rows.push_back(line);
  }
  std::string table;
  for (const std::string& row : expected) table += row + "\n";
  EXPECT_EQ(rows, expected) << "the table must be:\n" << table;
}

TEST(ConfigDocs, TheirExampleIsAConfiguration) {
  std::string example;
  bool inside = false;
  for (const std::string& line : lines_of_docs()) {
    if (line.starts_with("```")) {
      if (inside) break;
      inside = line == "```yaml";
    } else if (inside) {
      example += line + "\n";
    }
  }
  RunConfig config;
  ASSERT_NO_THROW(read_config_text(example, "example", config));
  EXPECT_EQ(config.stages.size(), 2U);
}

TEST(ConfigSchema, NamesEveryPathOnce) {
  std::set<std::string> paths;
  for (const KeyDescription& key : describe_keys()) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    EXPECT_FALSE(key.meaning.empty()) << key.path;
    EXPECT_EQ(key.meaning.find('|'), std::string::npos) << key.path;
  }
}

}  // namespace
}  // namespace sluice::launcher
