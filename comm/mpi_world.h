// The world of an MPI job. After start-up one thread makes all MPI calls: other threads hand it
// transfers, and sleep until it wakes them. It polls, because MPI's own waiting burns a core, and
// sleeps between polls (Backoff). mpi_world.cc has what other threads call, mpi_progress.cc what
// that one does.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/backoff.h"
#include "comm/last_words.h"
#include "comm/mpi_transport.h"
#include "comm/peers.h"
#include "comm/stop_handler.h"
#include "comm/transfer_table.h"
#include "comm/world.h"

namespace sluice::comm {

class MpiWorld final : public World, private StopOwner {
 public:
  static constexpr std::chrono::milliseconds kHeadPatience{1000};  // rank 0 ends a failed job
  /// A rank of another host that missed so many has died, if the job is about to end anyway.
  static constexpr int kSilentHeartbeats = 3;

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
  Step step_of(int rank) const override { return words_->step_of(rank); }
  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override;
  void on_exit(ExitFunction function, void* argument) override {
    words_->exit_calls().add(function, argument);
  }
  void forget_exit(void* argument) override { words_->exit_calls().forget(argument); }
  void on_stop(StopFunction function, void* argument) override {
    stop_.on_stop(function, argument);
  }
  void forget_stop() override { stop_.forget_stop(); }
  std::optional<ExitStatus> stop_status() const override { return stop_.status(); }

 private:
  using Time = std::chrono::steady_clock::time_point;

  void meet_others();
  StepBoard make_board(const ProcessId& leader);
  void prepare_stop();

  // StopOwner
  bool settles(int signal) override;
  bool is_head() const override { return rank() == 0; }
  std::string doubt() const override { return words_->reason_elsewhere(); }
  void tell_head(const StopCause& cause) override;
  void end(const StopCause& cause, bool at_once) override;

  Transfer submit(const Message& message);
  /// False: not every rank has joined in after `patience`.
  bool run_collective(const Collective& collective, std::chrono::milliseconds patience);
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
  void report_stop(Time now);
  void watch_peers(Time now);
  void send_heartbeats();
  void pause(Time now, bool moved);

  ChunkFlow& flow_of(const Message& message) {
    const int lane = static_cast<int>(message.route) * 2 + (message.sending ? 1 : 0);
    return flows_[static_cast<std::size_t>(lane * size() + message.peer)];
  }

  const MpiOptions options_;
  std::atomic<LastWords*> ready_words_{nullptr};  // for the signal thread, which is there first
  StopHandler stop_;
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
  std::optional<StopCause> wish_;     // to be told to rank 0
  std::optional<StopCause> overdue_;  // the job was to stop, and has not in time
  bool stopping_ = false;

  std::vector<QueuedMessage> queued_ = std::vector<QueuedMessage>(TransferTable::kCapacity);
  std::vector<ChunkFlow> flows_;  // see flow_of()
  bool collective_started_ = false;
  std::optional<Time> failure_seen_;
  bool failure_told_ = false;
  std::optional<Peers> peers_;
  Time next_heartbeat_;
  int suspect_ = -1;  // a neighbour that was dead a heartbeat ago
  Backoff backoff_{std::chrono::steady_clock::now()};
  std::thread thread_;
};

}  // namespace sluice::comm
