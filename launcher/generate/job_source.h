// Where the rows of a run come from, and where their answers go: on rank 0.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/step_board.h"
#include "launcher/jobs/request_row.h"
#include "stage/report.h"
#include "stage/request.h"

namespace sluice::launcher {

struct PlannedPipeline {
  std::vector<stage::StageReport> stages;       // what each plans to take, by rank
  std::int32_t places = 0;                      // for requests
  std::function<comm::Step(int rank)> step_of;  // see World::step_of()
};

class JobSource {
 public:
  virtual ~JobSource() = default;
  virtual stage::Job& job() = 0;
  virtual JobScan scan() const = 0;
  /// Before anything is loaded.
  virtual void planned(const PlannedPipeline& /*pipeline*/) {}
  /// Everything is loaded. `cores`: threads that this rank computes with.
  virtual void start(int /*cores*/) {}
  /// Rows that need nothing more. `ended`: requests that have.
  virtual std::uint64_t rows_done(std::uint64_t ended) const { return ended; }
  /// The rows are so many that it is worth to say how far the run is.
  virtual bool shows_progress() const { return true; }
  /// Returns whether some rows failed.
  virtual bool finish() = 0;
  virtual void keep_journal(bool /*to_disk*/) {}
  virtual JournalUse journal_use() const { return {}; }

  /// The run is asked to stop: from now on nothing starts that can wait. A thread of the world's.
  virtual void stop() noexcept { job().line().stop(); }
  /// The world is about to end the process: say what must be said, within a second. As
  /// World::on_exit has it.
  virtual void before_exit() noexcept {}
};

}  // namespace sluice::launcher
