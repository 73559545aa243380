#include "comm/start_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include "comm/last_words.h"
#include "comm/network.h"

namespace sluice::comm {

StartWatch::StartWatch(int rank, std::chrono::milliseconds patience)
    : thread_([this, rank, patience] { watch(rank, patience); }) {}

StartWatch::~StartWatch() {
  {
    const std::lock_guard lock(mutex_);
    met_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void StartWatch::watch(int rank, std::chrono::milliseconds patience) {
  constexpr std::chrono::seconds kHeadPatience{6};  // mpirun ends the others 3 s after it
  {
    std::unique_lock lock(mutex_);
    const auto all = rank == 0 ? patience : patience + kHeadPatience;
    if (wake_.wait_for(lock, all, [this] { return met_; })) return;
  }
  print_error(fmt::format(
      "rank {}: the ranks have not reached each other for {:g} s, so the job ends: {}.", rank,
      static_cast<double>(patience.count()) / 1000.0,
      advice_on_interfaces(variable_of_process(kIncludedInterfaces), addresses_of_host())));
  _exit(static_cast<int>(ExitStatus::peer_lost));
}

}  // namespace sluice::comm
