#include "launcher/config/shard.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "kernels/device/error.h"
#include "launcher/config/run_config.h"

namespace sluice::launcher {
namespace {

constexpr const char* kSlurm = "slurm";
constexpr std::string_view kPlace = "{shard}";
constexpr std::int64_t kMostShards = 1'000'000;

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const bool whole = error == std::errc() && stop == end && number >= 0;
  return whole ? std::optional(number) : std::nullopt;
}

std::int64_t number_of_slurm(const char* variable) {
  const char* const value = std::getenv(variable);
  if (value == nullptr) {
    throw ConfigError(
        fmt::format("--shard slurm (job.shard) needs {}, which Slurm sets in the tasks of a job "
                    "array (sbatch --array=0-7); elsewhere give --shard i/n",
                    variable));
  }
  const auto number = whole_number(value);
  if (!number) {
    throw ConfigError(fmt::format("{} is '{}'; it must be a whole number", variable, value));
  }
  return *number;
}

/// An array that does not have the tasks 0 to n-1 may be a part of one, submitted again: its own
/// number of tasks would then split the input in another way.
Shard shard_of_slurm() {
  const std::int64_t task = number_of_slurm("SLURM_ARRAY_TASK_ID");
  const std::int64_t first = number_of_slurm("SLURM_ARRAY_TASK_MIN");
  const std::int64_t last = number_of_slurm("SLURM_ARRAY_TASK_MAX");
  const std::int64_t count = number_of_slurm("SLURM_ARRAY_TASK_COUNT");
  if (first != 0 || last != count - 1 || task > last) {
    throw ConfigError(
        fmt::format("--shard slurm (job.shard) needs a job array of the tasks 0 to n-1, and this "
                    "one has {} tasks from {} to {}; say which part it is: --shard i/n",
                    count, first, last));
  }
  return {task, count};
}

bool has_place(const std::string& name) { return name.find(kPlace) != std::string::npos; }

void fill_place(std::string& name, const std::string& index) {
  for (std::size_t at = name.find(kPlace); at != std::string::npos; at = name.find(kPlace, at)) {
    name.replace(at, kPlace.size(), index);
    at += index.size();
  }
}

}  // namespace

std::optional<Shard> parse_shard(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return {};
  const auto index = whole_number(std::string_view(text).substr(0, slash));
  const auto count = whole_number(std::string_view(text).substr(slash + 1));
  if (!index || !count || *count > kMostShards || *index >= *count) return {};
  return Shard{*index, *count};
}

std::string shard_problem(const RunConfig& config) {
  const std::string& shard = config.job.shard;
  if (shard.empty()) {
    for (const std::string* name :
         {&config.job.output, &config.report.file, &config.report.trace}) {
      if (has_place(*name)) {
        return fmt::format("'{}' has {{shard}} in its name, and there is no --shard i/n", *name);
      }
    }
    return {};
  }
  if (shard != kSlurm && !parse_shard(shard)) {
    return fmt::format(
        "--shard (job.shard) is '{}'; it must be i/n with i from 0 to n-1 and n up to {}, as 0/4 "
        "to 3/4, or slurm",
        shard, kMostShards);
  }
  if (config.job.input.empty()) return "--shard takes a part of an --input file: give one";
  return {};
}

RunConfig of_shard(RunConfig config) {
  if (config.job.shard.empty()) return config;
  const auto given = parse_shard(config.job.shard);
  const Shard shard = given ? *given : shard_of_slurm();
  config.job.shard = fmt::format("{}/{}", shard.index, shard.count);
  const std::string index =
      fmt::format("{:0{}}", shard.index, fmt::formatted_size("{}", shard.count - 1));
  for (std::string* name : {&config.job.output, &config.report.file, &config.report.trace}) {
    fill_place(*name, index);
  }
  return config;
}

}  // namespace sluice::launcher
