// What was found out of this machine before, in machine files (machine_file.h) of the cache folder:
// `sluice calibrate`'s, and small ones of runs' own probes, so that a probe is needed once a month,
// not once a run.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "stage/report.h"

namespace sluice::launcher {

/// Dates are as in machine files: "2026-11-30". A file that cannot be read or understood counts as
/// absent.
class ProbeCache {
 public:
  /// Where there is no machine_cache_folder() nothing is found or kept.
  ProbeCache(std::string host, std::string processor)
      : host_(std::move(host)), processor_(std::move(processor)) {}

  /// Of the CPU engine with so many threads: memory_read, flop, host_to_device, device_to_host; no
  /// older than `oldest`, or as sluice calibrate measured them.
  std::optional<stage::MachineRates> engine(int threads, const std::string& oldest) const;
  /// Of the disk that holds `path`, likewise: the rate of its largest requests.
  std::optional<double> disk(const std::filesystem::path& path, const std::string& oldest) const;

  /// Replaces what is kept, in one step. Throws IoError or CapacityError.
  void keep_engine(int threads, const stage::MachineRates& rates, const std::string& date) const;
  void keep_disk(const std::filesystem::path& path, double read, const std::string& date) const;

  /// Empty: there is no place to keep it.
  std::filesystem::path engine_file(int threads) const;
  std::filesystem::path disk_file(const std::filesystem::path& path) const;

 private:
  std::string host_;
  std::string processor_;
};

}  // namespace sluice::launcher
