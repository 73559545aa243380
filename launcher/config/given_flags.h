// The flags of a command as they were given, before anything is known of their values.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "launcher/config/flag_tree.h"

namespace sluice::launcher {

using Words = std::vector<std::string>;

class GivenFlags {
 public:
  /// `names`: "--model,--path". The flag's address stays.
  Flag& add(const std::string& names);
  /// Words that belong to no flag.
  void set_extras(Words extras) { extras_ = std::move(extras); }

  /// Adds a problem for each unknown flag, stray word, repeated flag and missing value: CLI11 would
  /// stop at the first, and suggest nothing. `words` are the command line's. They tell
  /// --prompt=--model from --prompt --model, where the value is missing.
  void check(const std::string& command, const Words& words, std::vector<std::string>& problems);

  const Flags& flags() const { return flags_; }
  /// By its first name. False and empty, too, where the command has no such flag.
  bool has(const std::string& name) const;
  std::string value(const std::string& name) const;
  std::vector<std::string> values(const std::string& name) const;

 private:
  const Flag* find(const std::string& name) const;

  Flags flags_;
  Words extras_;
  Words known_ = {"--help"};
};

/// A whole number of at least `lowest`, or a problem. `number` stays where the flag is not given.
void read_count(const GivenFlags& given, const std::string& flag, std::int32_t lowest,
                std::int32_t& number, std::vector<std::string>& problems);

/// Throws ConfigError with a line for each problem.
[[noreturn]] void refuse(const std::vector<std::string>& problems);

}  // namespace sluice::launcher
