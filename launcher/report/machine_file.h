// What was measured of a machine, kept with it: one small file per host and processor, so that a
// probe is needed once a month, not once a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "stage/report.h"

namespace sluice::launcher {

/// "Intel(R) Xeon(R) Processor @ 2.50GHz", of /proc/cpuinfo; "unknown processor" where it does not
/// say.
std::string processor_name();

/// $XDG_CACHE_HOME/sluice/machine-<host>-<processor>.json, or ~/.cache/...; empty: neither is set.
std::filesystem::path machine_file_path(const std::string& host, const std::string& processor);

/// Times in seconds since 1970. An entry that cannot be read or understood counts as absent.
class MachineFile {
 public:
  explicit MachineFile(std::filesystem::path path) : path_(std::move(path)) {}

  /// Of the engine `device` with so many threads: memory_read, flop, host_to_device,
  /// device_to_host; no older than `oldest`.
  std::optional<stage::MachineRates> engine(const std::string& device, int threads,
                                            std::int64_t oldest) const;
  /// Of the disk that holds `path`: disk_read in bytes per second, 0 where it cannot be measured.
  std::optional<double> disk(const std::filesystem::path& path, std::int64_t oldest) const;

  /// Replaces what is kept, in one step. Throws IoError or CapacityError.
  void keep_engine(const std::string& device, int threads, const stage::MachineRates& rates,
                   std::int64_t now) const;
  void keep_disk(const std::filesystem::path& path, double read, std::int64_t now) const;

 private:
  std::filesystem::path path_;
};

}  // namespace sluice::launcher
