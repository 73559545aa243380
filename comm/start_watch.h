// Ends a job whose ranks cannot reach each other when it starts. There are no heartbeats yet, and
// MPI waits for ever where its interfaces do not lead to the other hosts.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace sluice::comm {

/// Unless it is destroyed within `patience`, it prints one sentence, which says what to set, and
/// exits with ExitStatus::peer_lost. Ranks above 0 leave that to rank 0, for some seconds more.
class StartWatch {
 public:
  StartWatch(int rank, std::chrono::milliseconds patience);
  ~StartWatch();
  StartWatch(const StartWatch&) = delete;
  StartWatch& operator=(const StartWatch&) = delete;

 private:
  void watch(int rank, std::chrono::milliseconds patience);

  std::mutex mutex_;
  std::condition_variable wake_;
  bool met_ = false;
  std::thread thread_;
};

}  // namespace sluice::comm
