// The world of an MPI job. After start-up one thread makes all MPI calls: other threads hand it
// transfers, and sleep until it wakes them. It polls, because MPI's own waiting burns a core, and
// sleeps between polls (Backoff).
#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <optional>
#include <thread>

#include "comm/backoff.h"
#include "comm/last_words.h"
#include "comm/launch.h"
#include "comm/mpi_transport.h"
#include "comm/peers.h"
#include "comm/signal_watch.h"
#include "comm/world.h"

namespace sluice::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Time = steady_clock::time_point;

constexpr milliseconds kHeadPatience{1000};  // for rank 0 to end the job after a fail() elsewhere

class MpiWorld final : public World {
 public:
  explicit MpiWorld(const MpiOptions& options);
  ~MpiWorld() override;

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  int ranks_on_host() const override { return transport_->ranks_on_host(); }
  int local_rank() const override { return transport_->local_rank(); }
  const std::vector<Host>& hosts() const override { return hosts_; }

  Transfer send(Route route, int target, std::span<const std::byte> bytes) override {
    // Message has one pointer for both directions; a sender's is never written through.
    return submit({true, route, target, const_cast<std::byte*>(bytes.data()), bytes.size()});
  }
  Transfer receive(Route route, int source, std::span<std::byte> bytes) override {
    return submit({false, route, source, bytes.data(), bytes.size()});
  }
  bool done(Transfer transfer, std::size_t* received_bytes) override {
    return table_.done(transfer, received_bytes);
  }
  std::size_t wait(Transfer transfer) override { return table_.wait(transfer); }
  void ring_for(Route route, Bell* bell) override { table_.ring_for(route, bell); }
  void throw_if_failed() const override { table_.throw_if_failed(); }

  std::vector<std::string> gather(const std::string& text) override;
  std::string broadcast(const std::string& text) override {
    return gather(rank() == 0 ? text : std::string()).front();
  }
  void step(const char* text, std::int64_t pass, std::int64_t layer) override {
    words_->step(make_step(text, pass, layer));
  }
  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override;
  void on_exit(ExitFunction function, void* argument) override {
    words_->on_exit(function, argument);
  }
  void forget_exit(void* argument) override { words_->forget_exit(argument); }

 private:
  void meet_others();
  StepBoard make_board(const ProcessId& leader);
  void answer_signal(int signal);

  Transfer submit(const Message& message);
  /// False: not every rank has joined in after `patience`.
  bool run_collective(const Collective& collective, milliseconds patience);
  [[noreturn]] void end_job(ExitStatus status, const std::string& sentence);

  // The rest belongs to the progress thread.
  void progress() noexcept;
  void poll_until_stopped();
  bool start_submitted();
  void start_chunks(ChunkFlow& flow);
  bool finish_chunks();
  bool advance_collective();
  bool hear_control(Time now);
  void report_failure(Time now);
  void watch_peers(Time now);
  void send_heartbeats();
  void pause(Time now, bool moved);

  ChunkFlow& flow_of(const Message& message) {
    const int lane = static_cast<int>(message.route) * 2 + (message.sending ? 1 : 0);
    return flows_[static_cast<std::size_t>(lane * size() + message.peer)];
  }

  const MpiOptions options_;
  std::atomic<LastWords*> ready_words_{nullptr};  // for the signal thread, which is there first
  SignalWatch signals_;
  std::unique_ptr<MpiTransport> transport_;
  std::vector<Host> hosts_;
  std::unique_ptr<LastWords> words_;
  TransferTable table_;

  std::mutex mutex_;  // guards what threads tell the progress thread, down to stopping_
  std::condition_variable wake_;
  std::array<int, TransferTable::kCapacity> submitted_ = {};  // slots, in order
  std::size_t submitted_count_ = 0;
  const Collective* collective_ = nullptr;
  bool collective_done_ = false;
  std::condition_variable collective_finished_;
  struct Failure {
    ExitStatus status;
    std::string sentence;
  };
  std::optional<Failure> failure_;
  bool stopping_ = false;

  std::vector<QueuedMessage> queued_ = std::vector<QueuedMessage>(TransferTable::kCapacity);
  std::vector<ChunkFlow> flows_;  // see flow_of()
  bool collective_started_ = false;
  std::optional<Time> failure_seen_;
  bool failure_told_ = false;
  std::optional<Peers> peers_;
  Time next_heartbeat_;
  int suspect_ = -1;  // a neighbour that was dead a heartbeat ago
  Backoff backoff_{steady_clock::now()};
  std::thread thread_;
};

MpiWorld::MpiWorld(const MpiOptions& options)
    : options_(options),
      signals_([this](int signal) { answer_signal(signal); }),
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
  words_ =
      std::make_unique<LastWords>(make_board(all[static_cast<std::size_t>(leader)].process), hosts_,
                                  std::move(neighbours), local_rank(), options_.heartbeat);
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

void MpiWorld::answer_signal(int signal) {
  LastWords* words = ready_words_;
  if (words != nullptr) {
    words->on_signal(signal);
  } else if (signal != SIGCONT) {
    _exit(128 + signal);  // still starting: nothing to save, nobody to name
  }
}

void MpiWorld::end_job(ExitStatus status, const std::string& sentence) {
  words_->say(sentence, status);
  words_->prepare_exit(status);
  transport_->abort(status);
  words_->exit(status);
}

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
  peers_->heard(heard->rank, heard->message.step, now);
  words_->heard(heard->rank);
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
  const bool under_way = transport_->has_chunks() || collective_ != nullptr || failure_.has_value();
  const auto sleep = backoff_.sleep(now, under_way);
  if (sleep == sleep.zero()) return;
  const bool was_waiting = collective_ != nullptr || failure_.has_value();
  wake_.wait_for(lock, sleep, [&] {
    return submitted_count_ > 0 || stopping_ ||
           (!was_waiting && (collective_ != nullptr || failure_.has_value()));
  });
}

}  // namespace

std::unique_ptr<World> make_mpi_world(const MpiOptions& options) {
  check_options(options);
  return std::make_unique<MpiWorld>(options);
}

}  // namespace sluice::comm
