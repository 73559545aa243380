// Which part of an input's rows a run answers: --shard.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice::launcher {

struct RunConfig;

/// Every count-th row, from `index` on.
struct Shard {
  std::int64_t index = 0;  // below `count`
  std::int64_t count = 1;

  /// `row`: its place among the rows, from 0. Blank lines are none.
  bool has(std::int64_t row) const { return row % count == index; }
};

/// Reads "2/8". Nothing: it is no shard.
std::optional<Shard> parse_shard(const std::string& text);

/// What is wrong with job.shard, and with {shard} in names of files, in one sentence; empty:
/// nothing.
std::string shard_problem(const RunConfig& config);

/// The configuration of one shard: "slurm" is read from the environment of a Slurm array task, and
/// {shard} in the names of output, report and trace becomes the index, with as many digits as the
/// last one has. Throws ConfigError.
RunConfig of_shard(RunConfig config);

}  // namespace sluice::launcher
