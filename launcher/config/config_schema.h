// The one description of every configuration key: its name, flag, range and meaning. The reader of
// YAML and flags, the printer, the help text and the documentation's table all are visitors of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launcher/config/run_config.h"

namespace sluice::launcher {

struct ConfigKey {
  const char* name;        // within its section
  const char* meaning;     // one line
  const char* flags = "";  // "--model,--path", first the one to be suggested
};

struct IntegerRange {
  std::int64_t lowest;
  std::int64_t highest;
};

struct RealRange {
  double lowest;
  double highest;
  bool open_below = false;  // `lowest` itself is not allowed
};

/// Called for every key in a fixed order. Implementations read into the value, or print it.
class SchemaVisitor {
 public:
  virtual ~SchemaVisitor() = default;
  /// False: the section's keys are not visited and leave() is not called.
  virtual bool enter(const ConfigKey& section) = 0;
  virtual void leave() = 0;
  virtual void text(const ConfigKey& key, std::string& value) = 0;
  virtual void boolean(const ConfigKey& key, bool& value) = 0;
  virtual void integer(const ConfigKey& key, std::int64_t& value, IntegerRange range) = 0;
  virtual void real(const ConfigKey& key, double& value, RealRange range) = 0;
  virtual void size(const ConfigKey& key, std::uint64_t& bytes) = 0;
  /// Whole seconds.
  virtual void duration(const ConfigKey& key, std::int64_t& seconds) = 0;
  virtual void choice(const ConfigKey& key, int& index, std::span<const char* const> names) = 0;
  virtual void shares(const ConfigKey& key, offload::Shares& value) = 0;
  virtual void texts(const ConfigKey& key, std::vector<std::string>& value, std::size_t most) = 0;
  virtual void integers(const ConfigKey& key, std::vector<std::int32_t>& value,
                        IntegerRange range) = 0;
  /// first_layer and layers: a count, or a range "0-11". 0: not said.
  virtual void layers(const ConfigKey& key, stage::StageConfig& stage) = 0;
  /// Items are described by describe_stage(); new ones begin as `defaults`.
  virtual void stages(const ConfigKey& key, std::vector<stage::StageConfig>& stages,
                      const stage::StageConfig& defaults) = 0;
};

void describe(SchemaVisitor& visitor, RunConfig& config);
/// The keys of stage_defaults and, but for the layers, of each item of stages.
void describe_stage(SchemaVisitor& visitor, stage::StageConfig& stage);

/// A key, as the documentation and the help text show it.
struct KeyDescription {
  std::string path;      // "stage_defaults.policy.weights"
  std::string flags;     // "--model,--path", or empty
  std::string form;      // "whole number, 1 to 65536", "true or false", "checkpoint or dummy"
  std::string fallback;  // the default, as YAML; empty for an empty text
  std::string meaning;
  bool is_boolean = false;
  bool is_list = false;
};
std::vector<KeyDescription> describe_keys();

}  // namespace sluice::launcher
