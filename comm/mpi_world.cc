#include "comm/mpi_world.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "comm/launch.h"

namespace sluice::comm {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

MpiWorld::MpiWorld(const MpiOptions& options)
    : options_(options),
      stop_(*this, options.advice),
      transport_(std::make_unique<MpiTransport>()) {
  try {
    meet_others();
  } catch (const Error& error) {
    // Others may wait for this rank, and nobody has a world yet to call fail() on.
    if (size() > 1) {
      print_error(fmt::format("rank {}: {}", rank(), error.what()));
      transport_->abort(error.status());
    }
    throw;
  }
  thread_ = std::thread([this] { progress(); });
}

void MpiWorld::meet_others() {
  const std::vector<Greeting> all = transport_->meet(options_.deadline);
  const int leader = all[static_cast<std::size_t>(rank())].host_leader;
  std::vector<Neighbour> neighbours;
  for (const Greeting& greeting : all) {
    hosts_.push_back({greeting.host.data(), greeting.process.pid});
    if (greeting.host_leader == leader) neighbours.push_back({greeting.rank, greeting.process});
  }
  words_ = std::make_unique<LastWords>(make_board(all[static_cast<std::size_t>(leader)].process),
                                       hosts_, std::move(neighbours), local_rank(),
                                       options_.heartbeat, options_.advice);
  prepare_stop();
  ready_words_ = words_.get();
  flows_.assign(static_cast<std::size_t>(kRouteCount * 2 * size()),
                ChunkFlow(options_.chunk_bytes, queued_));
  const Time now = steady_clock::now();
  peers_.emplace(rank(), size(), options_.deadline, now);
  next_heartbeat_ = now;
}

StepBoard MpiWorld::make_board(const ProcessId& leader) {
  const std::string name = fmt::format("/sluice-{}-{}", leader.pid, leader.start_ticks);
  std::optional<StepBoard> board;
  if (local_rank() == 0) board.emplace(StepBoard::create(name, ranks_on_host()));
  transport_->host_barrier();
  if (local_rank() != 0) board.emplace(StepBoard::open(name, ranks_on_host()));
  transport_->host_barrier();
  if (local_rank() == 0) StepBoard::remove_name(name);
  return std::move(*board);
}

MpiWorld::~MpiWorld() {
  std::vector<int> counts(static_cast<std::size_t>(size()), 1);
  std::vector<int> displacements(counts.size());
  for (int i = 0; i < size(); ++i) displacements[static_cast<std::size_t>(i)] = i;
  std::vector<std::byte> all(counts.size());
  const std::byte mine{};
  // A barrier: a rank has all ranks' bytes only after every rank has sent its own.
  const Collective barrier{&mine, all.data(), counts.data(), displacements.data()};
  if (!run_collective(barrier, options_.deadline)) {
    fail(ExitStatus::peer_lost,
         fmt::format("The job is done here, but other ranks have not ended after {:g} s.",
                     static_cast<double>(options_.deadline.count()) / 1000.0));
  }
  words_->end_normally();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  transport_.reset();
}

Transfer MpiWorld::submit(const Message& message) {
  check_peer(message.peer, size());
  Transfer transfer;
  {
    const std::lock_guard lock(mutex_);
    transfer = table_.open(message);
    submitted_[submitted_count_++] = TransferTable::slot_of(transfer);
  }
  wake_.notify_one();
  return transfer;
}

bool MpiWorld::run_collective(const Collective& collective, milliseconds patience) {
  std::unique_lock lock(mutex_);
  collective_ = &collective;
  collective_done_ = false;
  wake_.notify_one();
  return collective_finished_.wait_for(lock, patience, [&] { return collective_done_; });
}

std::vector<std::string> MpiWorld::gather(const std::string& text) {
  constexpr milliseconds kForever = std::chrono::hours(24 * 365);
  constexpr std::int64_t kMaxBytes = std::int64_t{1} << 30;
  const auto ranks = static_cast<std::size_t>(size());
  std::vector<std::int64_t> lengths(ranks);
  std::vector<int> counts(ranks, sizeof(std::int64_t));
  std::vector<int> displacements(ranks);
  for (std::size_t i = 0; i < ranks; ++i) {
    displacements[i] = static_cast<int>(i * sizeof(std::int64_t));
  }
  const auto length = static_cast<std::int64_t>(text.size());
  run_collective(
      {reinterpret_cast<const std::byte*>(&length), reinterpret_cast<std::byte*>(lengths.data()),
       counts.data(), displacements.data()},
      kForever);

  std::int64_t total = 0;
  for (std::size_t i = 0; i < ranks; ++i) {
    if (lengths[i] > kMaxBytes - total) {  // so on every rank: nobody is left waiting
      throw Error(ExitStatus::failure,
                  fmt::format("The ranks want to exchange more than {} bytes of text at once; this "
                              "is a bug of sluice.",
                              kMaxBytes));
    }
    counts[i] = static_cast<int>(lengths[i]);
    displacements[i] = static_cast<int>(total);
    total += lengths[i];
  }
  std::string all(static_cast<std::size_t>(total), '\0');
  run_collective({reinterpret_cast<const std::byte*>(text.data()),
                  reinterpret_cast<std::byte*>(all.data()), counts.data(), displacements.data()},
                 kForever);
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < ranks; ++i) {
    texts.push_back(all.substr(static_cast<std::size_t>(displacements[i]),
                               static_cast<std::size_t>(counts[i])));
  }
  return texts;
}

void MpiWorld::fail(ExitStatus status, const std::string& sentence) {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = Failure{status, sentence};  // the first cause wins
  }
  wake_.notify_one();
  // The progress thread ends the process. If that thread is stuck in MPI, this thread does.
  std::this_thread::sleep_for(3 * kHeadPatience);
  words_->say(fmt::format("rank {}: {}", rank(), sentence), status);
  words_->exit(status);
}

/// A rank that died on another host is known by its silence only: a launcher sends the others
/// SIGTERM about a second later, as it does when it is asked to stop the job.
void MpiWorld::prepare_stop() {
  if (is_head()) stop_.set_limit(options_.stop_after);
  StopTimes times;
  times.head = options_.stop_time;
  if (size() > ranks_on_host()) {
    times.without_head = std::min(times.head, kSilentHeartbeats * options_.heartbeat);
  }
  stop_.set_times(times);
}

bool MpiWorld::settles(int signal) {
  LastWords* words = ready_words_;
  if (words != nullptr) return words->is_settled();
  if (signal == SIGCONT) return true;
  // Still starting: there is nothing to save, and no rank yet but the launcher's.
  // Over several hosts SIGTERM mostly means that a rank has refused the start, and has said why.
  const StopCause cause = cause_of(signal);
  const Launch launch = find_launch();
  if (launch.rank == 0 && (launch.one_host || signal != SIGTERM)) {
    print_error(fmt::format("stopped by {}; {}.", cause.text, options_.advice));
  }
  _exit(static_cast<int>(cause.status));
}

void MpiWorld::tell_head(const StopCause& cause) {
  {
    const std::lock_guard lock(mutex_);
    wish_ = cause;
  }
  wake_.notify_one();
}

void MpiWorld::end(const StopCause& cause, bool at_once) {
  if (at_once) {
    words_->say("", cause.status);
    words_->exit(cause.status);
  }
  {
    const std::lock_guard lock(mutex_);
    overdue_ = cause;
  }
  wake_.notify_one();
}

void MpiWorld::end_job(ExitStatus status, const std::string& sentence) {
  words_->say(sentence, status);
  words_->prepare_exit(status);
  transport_->abort(status);
  words_->exit(status);
}

std::unique_ptr<World> make_mpi_world(const MpiOptions& options) {
  check_options(options);
  return std::make_unique<MpiWorld>(options);
}

}  // namespace sluice::comm
