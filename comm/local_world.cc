// Ranks as threads of one process. The call that completes a pair of send and receive copies the
// message once, from the sender's bytes to the receiver's. A send completes only then, as a large
// MPI send does: a program that relies on buffering hangs here, too, and not first on a cluster.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>

#include "comm/exit_calls.h"
#include "comm/stop_handler.h"
#include "comm/transfer_table.h"
#include "comm/world.h"

namespace sluice::comm {
namespace {

/// By slot of one rank: the slot behind it in its channel. A slot is in one channel at most.
using Links = std::array<std::int16_t, TransferTable::kCapacity>;

/// The messages of one (route, source, target) that wait for their other half, in order: slots of
/// the rank that waits, and that rank's links.
struct Channel {
  int first = -1;  // -1: none
  int last = -1;
  bool senders = false;  // what waits: sends, or receives

  bool empty() const { return first < 0; }
  void push(int slot, Links& links) {
    links[static_cast<std::size_t>(slot)] = -1;
    if (empty()) {
      first = slot;
    } else {
      links[static_cast<std::size_t>(last)] = static_cast<std::int16_t>(slot);
    }
    last = slot;
  }
  int pop(const Links& links) {
    const int slot = first;
    first = links[static_cast<std::size_t>(slot)];
    return slot;
  }
};

std::string host_name() {
  std::array<char, 256> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

/// What the ranks share. Messages are copied under the lock, because a rank that learns of a
/// failure may free its buffers at once.
class Hub {
 public:
  explicit Hub(int size)
      : tables_(static_cast<std::size_t>(size)),
        links_(static_cast<std::size_t>(size)),
        channels_(static_cast<std::size_t>(kRouteCount * size * size)),
        hosts_(static_cast<std::size_t>(size), Host{host_name(), getpid()}),
        texts_(static_cast<std::size_t>(size)),
        steps_(static_cast<std::size_t>(size)) {
    for (auto& table : tables_) table = std::make_unique<TransferTable>();
  }

  int size() const { return static_cast<int>(tables_.size()); }
  const std::vector<Host>& hosts() const { return hosts_; }
  TransferTable& table(int rank) { return *tables_[static_cast<std::size_t>(rank)]; }

  Transfer start(int rank, const Message& message) {
    check_peer(message.peer, size());
    const std::lock_guard lock(mutex_);
    const Transfer transfer = table(rank).open(message);
    const int slot = TransferTable::slot_of(transfer);
    Channel& channel = message.sending ? channel_of(message.route, rank, message.peer)
                                       : channel_of(message.route, message.peer, rank);
    if (channel.empty() || channel.senders == message.sending) {
      channel.senders = message.sending;
      channel.push(slot, links(rank));
    } else if (message.sending) {
      deliver(rank, slot, message.peer, channel.pop(links(message.peer)));
    } else {
      deliver(message.peer, channel.pop(links(message.peer)), rank, slot);
    }
    return transfer;
  }

  std::vector<std::string> gather(int rank, const std::string& text) {
    std::unique_lock lock(mutex_);
    table(rank).throw_if_failed();
    texts_[static_cast<std::size_t>(rank)] = text;
    const std::uint64_t round = round_;
    if (++arrived_ == size()) {
      gathered_ = texts_;
      arrived_ = 0;
      ++round_;
      all_arrived_.notify_all();
    }
    all_arrived_.wait(lock, [&] { return round_ != round || failed_; });
    table(rank).throw_if_failed();
    return gathered_;
  }

  void fail(int rank, const std::string& sentence) {
    const std::lock_guard lock(mutex_);
    fail_locked(rank, sentence);
  }

  void set_step(int rank, const Step& step) {
    const std::lock_guard lock(steps_mutex_);
    steps_[static_cast<std::size_t>(rank)] = step;
  }
  Step step_of(int rank) {
    const std::lock_guard lock(steps_mutex_);
    return steps_[static_cast<std::size_t>(rank)];
  }

 private:
  Links& links(int rank) { return links_[static_cast<std::size_t>(rank)]; }
  Channel& channel_of(Route route, int source, int target) {
    const int index = (static_cast<int>(route) * size() + source) * size() + target;
    return channels_[static_cast<std::size_t>(index)];
  }

  void deliver(int source, int source_slot, int target, int target_slot) {
    const Message& sent = table(source).message(source_slot);
    const Message& wanted = table(target).message(target_slot);
    if (sent.bytes > wanted.bytes) {
      fail_locked(target,
                  fmt::format("A message of {} bytes came from rank {} on route {}, but the "
                              "receive has room for {}; this is a bug of sluice.",
                              sent.bytes, source, name_of(sent.route), wanted.bytes));
      return;
    }
    if (sent.bytes > 0) std::memcpy(wanted.data, sent.data, sent.bytes);
    const std::size_t bytes = sent.bytes;
    table(target).complete(target_slot, bytes);
    table(source).complete(source_slot, bytes);
  }

  void fail_locked(int rank, const std::string& sentence) {
    for (auto& table : tables_) table->fail(fmt::format("rank {}: {}", rank, sentence));
    failed_ = true;
    all_arrived_.notify_all();
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<TransferTable>> tables_;  // by rank
  std::vector<Links> links_;                            // by rank
  std::vector<Channel> channels_;
  std::vector<Host> hosts_;
  // gather(): a round is over when all ranks have arrived. gathered_ stays until the next round is
  // over, and a rank arrives there only after it has read this round's texts.
  std::condition_variable all_arrived_;
  std::vector<std::string> texts_;
  std::vector<std::string> gathered_;
  int arrived_ = 0;
  std::uint64_t round_ = 0;
  bool failed_ = false;
  std::mutex steps_mutex_;
  std::vector<Step> steps_;  // by rank
};

class LocalWorld : public World {
 public:
  LocalWorld(std::shared_ptr<Hub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return hub_->size(); }
  int ranks_on_host() const override { return hub_->size(); }
  int local_rank() const override { return rank_; }
  const std::vector<Host>& hosts() const override { return hub_->hosts(); }

  Transfer send(Route route, int target, std::span<const std::byte> bytes) override {
    // Message has one pointer for both directions; a sender's is never written through.
    return hub_->start(rank_,
                       {true, route, target, const_cast<std::byte*>(bytes.data()), bytes.size()});
  }
  Transfer receive(Route route, int source, std::span<std::byte> bytes) override {
    return hub_->start(rank_, {false, route, source, bytes.data(), bytes.size()});
  }
  bool done(Transfer transfer, std::size_t* received_bytes) override {
    return hub_->table(rank_).done(transfer, received_bytes);
  }
  std::size_t wait(Transfer transfer) override { return hub_->table(rank_).wait(transfer); }
  void ring_for(Route route, Bell* bell) override { hub_->table(rank_).ring_for(route, bell); }
  void throw_if_failed() const override { hub_->table(rank_).throw_if_failed(); }

  std::vector<std::string> gather(const std::string& text) override {
    return hub_->gather(rank_, text);
  }
  std::string broadcast(const std::string& text) override {
    return hub_->gather(rank_, rank_ == 0 ? text : std::string()).front();
  }

  void step(const char* text, std::int64_t pass, std::int64_t layer) override {
    hub_->set_step(rank_, make_step(text, pass, layer));
  }
  Step step_of(int rank) const override { return hub_->step_of(rank); }

  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override {
    hub_->fail(rank_, sentence);
    throw Error(status, sentence);
  }

 private:
  std::shared_ptr<Hub> hub_;
  int rank_;
};

/// The only rank of a program. Nobody else can end the process.
class LoneWorld final : public LocalWorld, private StopOwner {
 public:
  explicit LoneWorld(const MpiOptions& options)
      : LocalWorld(std::make_shared<Hub>(1), 0), stop_(*this, options.advice) {
    StopTimes times;
    times.head = options.stop_time;
    stop_.set_times(times);
    stop_.set_limit(options.stop_after);
  }

  void on_exit(ExitFunction function, void* argument) override {
    exit_calls_.add(function, argument);
  }
  void forget_exit(void* argument) override { exit_calls_.forget(argument); }
  void on_stop(StopFunction function, void* argument) override {
    stop_.on_stop(function, argument);
  }
  void forget_stop() override { stop_.forget_stop(); }
  std::optional<ExitStatus> stop_status() const override { return stop_.status(); }

 private:
  bool settles(int) override { return false; }
  bool is_head() const override { return true; }
  void tell_head(const StopCause&) override {}
  void end(const StopCause& cause, bool /*at_once*/) override {
    exit_calls_.run();
    _exit(static_cast<int>(cause.status));
  }

  ExitCalls exit_calls_;
  StopHandler stop_;
};

}  // namespace

std::unique_ptr<World> make_lone_world(const MpiOptions& options) {
  return std::make_unique<LoneWorld>(options);
}

std::vector<std::unique_ptr<World>> make_local_worlds(int size) {
  if (size < 1) {
    throw ConfigError(fmt::format("A job needs at least 1 rank, but {} were asked for.", size));
  }
  const auto hub = std::make_shared<Hub>(size);
  std::vector<std::unique_ptr<World>> worlds;
  for (int rank = 0; rank < size; ++rank) worlds.push_back(std::make_unique<LocalWorld>(hub, rank));
  return worlds;
}

}  // namespace sluice::comm
