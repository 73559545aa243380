// What the progress thread of an MPI world does: see mpi_world.h.
#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "comm/mpi_world.h"

namespace sluice::comm {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

void MpiWorld::progress() noexcept {
  try {
    // Sleeps end up to 50 us late by default, longer than Backoff's shortest sleep.
    if (prctl(PR_SET_TIMERSLACK, 1000UL) != 0) {
      throw Error(ExitStatus::failure, "prctl(PR_SET_TIMERSLACK) failed; allow it in the sandbox.");
    }
    poll_until_stopped();
  } catch (const Error& error) {
    end_job(error.status(), fmt::format("rank {}: {}", rank(), error.what()));
  }
}

void MpiWorld::poll_until_stopped() {
  while (true) {
    const Time now = steady_clock::now();
    bool moved = start_submitted();
    moved = finish_chunks() || moved;
    moved = advance_collective() || moved;
    moved = hear_control(now) || moved;
    report_failure(now);
    report_stop(now);
    watch_peers(now);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    pause(now, moved);
  }
}

bool MpiWorld::start_submitted() {
  std::array<int, TransferTable::kCapacity> slots;
  std::size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = std::exchange(submitted_count_, 0);
    std::copy_n(submitted_.begin(), count, slots.begin());
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Message& message = table_.message(slots[i]);
    ChunkFlow& flow = flow_of(message);
    flow.push(slots[i], message);
    start_chunks(flow);
  }
  return count > 0;
}

void MpiWorld::start_chunks(ChunkFlow& flow) {
  while (const auto chunk = flow.next()) transport_->start(table_.message(chunk->slot), *chunk);
}

bool MpiWorld::finish_chunks() {
  const auto finished = transport_->finished();
  for (const FinishedChunk& chunk : finished) {
    const Message message = table_.message(chunk.slot);
    if (chunk.too_long) {
      throw Error(ExitStatus::failure,
                  fmt::format("A message longer than the {} bytes that the receive has room for "
                              "came from rank {} on route {}; this is a bug of sluice.",
                              message.bytes, message.peer, name_of(message.route)));
    }
    ChunkFlow& flow = flow_of(message);
    if (const auto bytes = flow.finished(chunk.slot, chunk.bytes)) {
      table_.complete(chunk.slot, *bytes);
    }
    start_chunks(flow);
  }
  return !finished.empty();
}

bool MpiWorld::advance_collective() {
  const std::lock_guard lock(mutex_);
  if (collective_ == nullptr) return false;
  if (!collective_started_) {
    transport_->start_collective(*collective_);
    collective_started_ = true;
  }
  if (!transport_->collective_finished()) return false;
  collective_ = nullptr;
  collective_started_ = false;
  collective_done_ = true;
  collective_finished_.notify_all();
  return true;
}

bool MpiWorld::hear_control(Time now) {
  const auto heard = transport_->hear_control();
  if (!heard) return false;
  if (heard->message.kind == ControlKind::failure) {
    end_job(heard->message.status,
            fmt::format("rank {}: {}", heard->rank, heard->message.sentence));
  }
  if (heard->message.kind == ControlKind::stop) {
    stop_.ask({heard->message.status,
               fmt::format("{} to rank {}", heard->message.sentence, heard->rank)});
  }
  peers_->heard(heard->rank, heard->message.step, now);
  words_->heard(heard->rank, heard->message.step);
  return true;
}

void MpiWorld::report_failure(Time now) {
  std::optional<Failure> failure;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) return;
    failure = failure_;
  }
  if (!failure_seen_) failure_seen_ = now;
  // Rank 0 ends the job for all: of two failures, one alone is then told and gives the status.
  if (rank() == 0 || now - *failure_seen_ > kHeadPatience) {
    end_job(failure->status, fmt::format("rank {}: {}", rank(), failure->sentence));
  }
  if (!failure_told_) {
    failure_told_ = transport_->send_control(
        0, {ControlKind::failure, failure->status, words_->own_step(), failure->sentence});
  }
}

void MpiWorld::report_stop(Time now) {
  std::optional<StopCause> wish;
  std::optional<StopCause> overdue;
  {
    const std::lock_guard lock(mutex_);
    wish = wish_;
    overdue = overdue_;
  }
  if (wish && transport_->send_control(
                  0, {ControlKind::stop, wish->status, words_->own_step(), wish->text})) {
    const std::lock_guard lock(mutex_);
    wish_.reset();
  }
  if (!overdue) return;
  // The wish may have been a launcher's, because a rank of another host has died.
  const milliseconds patience = kSilentHeartbeats * options_.heartbeat;
  const bool several_hosts = size() > ranks_on_host();
  if (const int silent = peers_->silent_for(patience, now); several_hosts && silent >= 0) {
    end_job(ExitStatus::peer_lost, words_->silence_of(silent, patience, peers_->last_step(silent)));
  }
  end_job(overdue->status, "");
}

void MpiWorld::watch_peers(Time now) {
  peers_->tick(now);
  if (const int silent = peers_->silent(now); silent >= 0) {
    end_job(ExitStatus::peer_lost,
            words_->silence_of(silent, options_.deadline, peers_->last_step(silent)));
  }
  if (now < next_heartbeat_) return;
  next_heartbeat_ = now + options_.heartbeat;
  send_heartbeats();
  // mpirun stops the survivors itself, faster than this, and gives the job the dead rank's status.
  // srun without -K does not: the survivors end here, and do not wait for the deadline.
  const int dead = words_->dead_rank();
  if (dead >= 0 && dead == suspect_) end_job(ExitStatus::peer_lost, words_->death_of(dead));
  suspect_ = dead;
}

void MpiWorld::send_heartbeats() {
  const ControlMessage beat{ControlKind::heartbeat, ExitStatus::done, words_->own_step(), {}};
  const int first = rank() == 0 ? 1 : 0;
  const int end = rank() == 0 ? size() : 1;
  // Skip a target whose last heartbeat is still under way: that one says enough.
  for (int target = first; target < end; ++target) transport_->send_control(target, beat);
}

void MpiWorld::pause(Time now, bool moved) {
  if (moved) backoff_.moved(now);
  std::unique_lock lock(mutex_);
  const auto has_news = [this] { return failure_ || wish_ || overdue_; };
  const bool under_way = transport_->has_chunks() || collective_ != nullptr || has_news();
  const auto sleep = backoff_.sleep(now, under_way);
  if (sleep == sleep.zero()) return;
  const bool was_waiting = collective_ != nullptr || has_news();
  wake_.wait_for(lock, sleep, [&] {
    return submitted_count_ > 0 || stopping_ ||
           (!was_waiting && (collective_ != nullptr || has_news()));
  });
}

}  // namespace sluice::comm
