// What has to be done before a world ends its process: World::on_exit().
#pragma once

#include <mutex>
#include <vector>

#include "comm/world.h"

namespace sluice::comm {

/// Any thread may call anything.
class ExitCalls {
 public:
  /// At most 8. Throws Error.
  void add(World::ExitFunction function, void* argument);
  /// Waits for a call that runs.
  void forget(void* argument);
  /// Calls each function once. No other thread ends the process half-way, if all of them run()
  /// before they do.
  void run() noexcept;

 private:
  struct Call {
    World::ExitFunction function;
    void* argument;
  };

  std::mutex mutex_;  // held while they run
  std::vector<Call> calls_;
};

}  // namespace sluice::comm
