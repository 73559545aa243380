// What the head shows before a run begins: packing, where weights are compressed and were not found
// packed, and loading.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>

#include "launcher/report/progress.h"
#include "offload/weights/packed_source.h"

namespace sluice::launcher {

/// Used by one thread.
class LoadDisplay {
 public:
  /// `load_bytes`: of all that loaded() will report. `out` must outlive it.
  LoadDisplay(std::ostream& out, ProgressStyle style, std::uint64_t load_bytes);

  void packing(const offload::PackingState& state);
  void loaded(std::uint64_t bytes);
  void finish();

 private:
  void begin(const char* what, std::uint64_t total);

  std::ostream& out_;
  ProgressStyle style_;
  std::uint64_t load_bytes_;
  std::uint64_t loaded_ = 0;
  bool packing_known_ = false;
  bool loading_ = false;
  std::optional<Progress> progress_;
};

}  // namespace sluice::launcher
