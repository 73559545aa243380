// Configuration files. The only file of sluice that knows yaml-cpp is config_yaml.cc.
//
// yaml-cpp takes the first of two equal keys, passes over unknown keys, and reads 010 as 8. Here
// each of these is an error with file, line and column.
#pragma once

#include <filesystem>
#include <string>

#include "launcher/config/config_node.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {

/// The tree that `text` is, with the place of every value; `name` stands for the file's in
/// messages. At most 1 MiB, one document, without anchors, aliases, merge keys or tags, at most 64
/// deep. Keys given twice become problems. Throws ConfigError for what is no such YAML.
ConfigNode read_yaml(const std::string& text, const std::string& name, ConfigProblems& problems);

/// A file's text. Throws ConfigError for a folder, and where it cannot be read: the sentence says
/// that `wanted`, such as "--config", needs a YAML file. Of a longer file at most 1 MiB and a byte.
std::string read_yaml_file(const std::filesystem::path& file, const std::string& wanted);

/// A double-quoted YAML scalar.
std::string double_quoted(const std::string& text);

/// Sets in `config` what `file` says and leaves the rest as it is. Throws ConfigError with every
/// problem on a line of its own: "run.yaml:3:5: key 'stages[1].polciy': unknown key; did you mean
/// 'policy'?".
void read_config_file(const std::filesystem::path& file, RunConfig& config);

/// The same, from memory; `name` stands for the file's in messages.
void read_config_text(const std::string& text, const std::string& name, RunConfig& config);

/// The whole configuration as YAML that read_config_text() reads back to the same, and that says
/// what each key means.
std::string to_yaml(const RunConfig& config);

/// A digest of what must be alike on all ranks, as 16 hexadecimal digits. It leaves out what is
/// shown, and the names of files and folders, which may differ from node to node.
std::string config_digest(const RunConfig& config);

}  // namespace sluice::launcher
