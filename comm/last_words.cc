#include "comm/last_words.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace sluice::comm {

void print_error(const std::string& sentence) {
  const std::string line = fmt::format("sluice: {}\n", sentence);
  // One call, so that lines of several ranks do not mix. Nothing is left to do if stderr is gone.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

LastWords::LastWords(StepBoard board, std::vector<Host> hosts, std::vector<Neighbour> neighbours,
                     int local_rank, std::chrono::milliseconds heartbeat, std::string advice)
    : board_(std::move(board)),
      hosts_(std::move(hosts)),
      neighbours_(std::move(neighbours)),
      local_rank_(local_rank),
      heartbeat_(heartbeat),
      advice_(std::move(advice)),
      heard_(hosts_.size()),
      steps_(hosts_.size()) {
  for (auto& when : heard_) when = Clock::now();
  for (Neighbour& neighbour : neighbours_) neighbour.watched = is_alive(neighbour.process);
}

void LastWords::heard(int rank, const Step& step) noexcept {
  heard_[static_cast<std::size_t>(rank)] = Clock::now();
  const std::lock_guard lock(mutex_);
  steps_[static_cast<std::size_t>(rank)] = step;
}

Step LastWords::step_of(int rank) const {
  if (const int seat = seat_of(rank); seat >= 0) return board_.read(seat);
  const std::lock_guard lock(mutex_);
  return steps_[static_cast<std::size_t>(rank)];
}

int LastWords::dead_rank() const {
  for (std::size_t seat = 0; seat < neighbours_.size(); ++seat) {
    const Neighbour& neighbour = neighbours_[seat];
    // Look at the process first, then at the board. A rank that leaves by itself says so on the
    // board before its process is gone.
    if (neighbour.watched && !is_alive(neighbour.process) && !board_.left(static_cast<int>(seat))) {
      return neighbour.rank;
    }
  }
  return -1;
}

std::string LastWords::death_of(int rank) const {
  return fmt::format("{} died; its last step was: {}. The job ends; {}.", name_of_rank(rank),
                     describe(board_.read(seat_of(rank))), advice_);
}

std::string LastWords::silence_of(int rank, std::chrono::milliseconds deadline,
                                  const Step& heard) const {
  const int seat = seat_of(rank);
  return fmt::format("{} has been silent for {:g} s; its last step was: {}. The job ends; {}.",
                     name_of_rank(rank), static_cast<double>(deadline.count()) / 1000.0,
                     describe(seat >= 0 ? board_.read(seat) : heard), advice_);
}

void LastWords::say(const std::string& sentence, ExitStatus status) {
  if (board_.claim_last_word(static_cast<int>(status)) && !sentence.empty()) {
    print_error(sentence);
  }
}

void LastWords::prepare_exit(ExitStatus status) {
  int expected = -1;
  exit_code_.compare_exchange_strong(expected, static_cast<int>(status));
  board_.leave(local_rank_);
  exit_calls_.run();
}

void LastWords::exit(ExitStatus status) {
  prepare_exit(status);
  _exit(exit_code_);
}

bool LastWords::is_settled() {
  if (ended_normally_) return true;
  if (const int code = exit_code_; code >= 0) exit(static_cast<ExitStatus>(code));
  if (const int dead = dead_rank(); dead >= 0) {
    say(death_of(dead), ExitStatus::peer_lost);
    exit(ExitStatus::peer_lost);
  }
  if (const int code = board_.last_exit_code(); code >= 0) exit(static_cast<ExitStatus>(code));
  return false;
}

std::string LastWords::reason_elsewhere() const {
  if (hosts_.size() == neighbours_.size()) return {};
  int quietest = -1;
  Clock::duration silence = heartbeat_ + heartbeat_ / 2;
  for (std::size_t rank = 0; rank < hosts_.size(); ++rank) {
    const Clock::duration silent = Clock::now() - heard_[rank].load();
    if (seat_of(static_cast<int>(rank)) >= 0 || silent < silence) continue;
    quietest = static_cast<int>(rank);
    silence = silent;
  }
  if (quietest < 0) return ", by its user or because a process on another host ended";
  return fmt::format(", after {} had been silent for {:.1f} s", name_of_rank(quietest),
                     std::chrono::duration<double>(silence).count());
}

void LastWords::end_normally() {
  ended_normally_ = true;
  board_.leave(local_rank_);
}

int LastWords::seat_of(int rank) const {
  const auto found = std::find_if(neighbours_.begin(), neighbours_.end(),
                                  [&](const Neighbour& n) { return n.rank == rank; });
  return found == neighbours_.end() ? -1 : static_cast<int>(found - neighbours_.begin());
}

std::string LastWords::name_of_rank(int rank) const {
  const Host& host = hosts_[static_cast<std::size_t>(rank)];
  return fmt::format("rank {} (host {}, pid {})", rank, host.name, host.pid);
}

}  // namespace sluice::comm
