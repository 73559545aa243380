// The disk under a folder, measured as offload files are read and written: by the disk engine, past
// the page cache where the file system takes that.
#pragma once

#include <filesystem>
#include <memory>

#include "launcher/calibrate/operands.h"
#include "launcher/calibrate/sampler.h"
#include "offload/disk/disk_engine.h"

namespace sluice::launcher {

class DiskRun {
 public:
  /// Makes a file of `bytes` in a folder of its own in `folder`, which the destructor removes.
  /// Throws IoError, or CapacityError where the disk is too small.
  DiskRun(const std::filesystem::path& folder, std::size_t bytes);

  /// Bytes per second of requests of this size, as many at a time as the engine takes, over all of
  /// the file.
  double read(std::size_t request);
  double write(std::size_t request);
  /// "io_uring, direct".
  std::string description() const { return engine_->description(); }

 private:
  /// `submit(offset, bytes, memory, group)`: one request.
  template <typename Request>
  double rate(std::size_t request, const Request& submit);

  std::size_t bytes_;
  std::unique_ptr<offload::DiskEngine> engine_;
  offload::RunFolder folder_;
  Memory memory_;
  offload::FileId written_ = -1;
  offload::FileId read_ = -1;
};

/// All of DiskRates; product_share where the device is a CPU. Throws IoError or CapacityError.
DiskRates measure_disk(const std::filesystem::path& folder, ProductRun* products, Sampler& sampler);

/// The sizes of requests that are measured.
inline constexpr std::size_t kDiskRequests[] = {64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20};

}  // namespace sluice::launcher
