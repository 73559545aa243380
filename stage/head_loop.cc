// The head's loop: passes out, results in, and sleep while there is neither.
#include <algorithm>
#include <chrono>
#include <vector>

#include "stage/flights.h"
#include "stage/head.h"
#include "stage/topology.h"

namespace sluice::stage {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Of a pass under way.
struct Sent {
  std::vector<std::byte> message;
  comm::Transfer transfer;
  std::chrono::steady_clock::time_point begin;
};

/// Results ring the job's bell for as long as this lives.
class ResultsBell {
 public:
  ResultsBell(comm::World& world, comm::Bell& bell) : world_(world) {
    world_.ring_for(comm::Route::results, &bell);
  }
  ~ResultsBell() { world_.ring_for(comm::Route::results, nullptr); }
  ResultsBell(const ResultsBell&) = delete;
  ResultsBell& operator=(const ResultsBell&) = delete;

 private:
  comm::World& world_;
};

class HeadLoop {
 public:
  HeadLoop(Job& job, const Batching& batching, comm::World& world,
           const std::vector<CacheRoom>& rooms, Drafter* drafter)
      : world_(world),
        topology_(Topology::of_ranks(world.size())),
        line_(job.line()),
        flights_(
            job, batching, topology_.stages, PageLedger(rooms, batching.slots(topology_.stages)),
            [this](const Pass& pass) { send(pass); }, drafter),
        results_bell_(world, line_.bell()) {
    sent_.resize(Flights::most(batching, topology_.stages));
    for (Sent& sent : sent_) sent.message.resize(max_pass_bytes(batching, topology_.stages));
    results_.reserve(batching);
    for (std::vector<std::byte>& buffer : incoming_) buffer.resize(max_results_bytes(batching));
  }

  RunReport run() {
    const auto begin = std::chrono::steady_clock::now();
    last_ = begin;
    if (!line_.stopping()) flights_.begin();
    for (;;) {
      const std::uint32_t rings = line_.bell().count();
      if (line_.take_news()) hear();
      if (results_came()) {
        land();
      } else if (flights_.under_way() || (!stopping_ && may_come())) {
        line_.bell().wait(rings);
      } else {
        break;
      }
    }
    end_job();
    RunReport report = flights_.counts();
    report.stopped = stopping_ && !flights_.is_done();
    report.prefill_seconds = prefill_seconds_;
    report.decode_seconds = decode_seconds_;
    report.wall_seconds = seconds_since(begin);
    return report;
  }

 private:
  /// New requests, cancelled ones, or the wish to stop.
  void hear() {
    if (line_.stopping()) {
      stopping_ = true;
      return flights_.stop();
    }
    line_.take_cancelled(cancelled_);
    flights_.hear(cancelled_);
  }

  bool results_came() { return flights_.under_way() && world_.done(receiving_, &result_bytes_); }

  bool may_come() {
    world_.throw_if_failed();
    return flights_.may_come();
  }

  Sent& sent(std::int64_t number) { return sent_[static_cast<std::size_t>(number) % sent_.size()]; }

  void send(const Pass& pass) {
    Sent& next = sent(pass.number);
    next.transfer = world_.send(comm::Route::passes, topology_.head(), encode(pass, next.message));
    next.begin = std::chrono::steady_clock::now();
    if (pass.number == received_) receive_results();
  }

  /// The receive of the next results is posted before those at hand are looked at.
  void receive_results() {
    receiving_ = world_.receive(comm::Route::results, topology_.last(), incoming_[received_ % 2]);
  }

  /// Takes in the oldest pass under way, whose results have come.
  void land() {
    const std::span<const std::byte> buffer(incoming_[received_ % 2]);
    const std::size_t bytes = result_bytes_;
    if (++received_ < flights_.launched()) receive_results();
    const Sent& oldest = sent(flights_.landed());
    world_.wait(oldest.transfer);
    decode(buffer.first(bytes), results_);
    flights_.land(results_, account(oldest));
  }

  void end_job() {
    Pass end;
    end.end = true;
    end.number = flights_.launched();
    world_.wait(
        world_.send(comm::Route::passes, topology_.head(), encode(end, sent(end.number).message)));
  }

  /// Time from the last landing (or this launch, if later) goes to the pass that lands now.
  double account(const Sent& landing) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds =
        std::chrono::duration<double>(now - std::max(last_, landing.begin)).count();
    last_ = now;
    const double share = flights_.prefill_share_of_oldest();
    prefill_seconds_ += seconds * share;
    decode_seconds_ += seconds * (1.0 - share);
    return seconds;
  }

  comm::World& world_;
  Topology topology_;
  HeadLine& line_;
  Flights flights_;
  std::vector<Sent> sent_;              // by pass number
  std::vector<std::byte> incoming_[2];  // by pass number % 2
  comm::Transfer receiving_;
  std::int64_t received_ = 0;             // passes whose results have come
  std::size_t result_bytes_ = 0;          // that came with the last
  std::vector<std::uint64_t> cancelled_;  // scratch
  PassResults results_;
  bool stopping_ = false;  // as line_ said when it was heard
  double prefill_seconds_ = 0;
  double decode_seconds_ = 0;
  std::chrono::steady_clock::time_point last_;
  ResultsBell results_bell_;
};

}  // namespace

std::uint64_t head_memory(const Batching& batching, std::int32_t stages) {
  // A pass has the same content as its message, which lies beside it.
  const std::uint64_t flights =
      2 * std::uint64_t{Flights::most(batching, stages)} * max_pass_bytes(batching, stages);
  const auto slots = static_cast<std::uint64_t>(batching.slots(stages));
  const auto most_guesses = static_cast<std::uint64_t>(batching.draft_tokens);
  const auto waiting = static_cast<std::uint64_t>(batching.look_ahead(stages));
  const std::uint64_t guesses =
      most_guesses > 0 ? slots * (sizeof(DraftRow) + most_guesses * sizeof(std::int32_t)) : 0;
  return flights + 3 * max_results_bytes(batching) + guesses +
         (slots + waiting) *
             Admission::slot_bytes(batching.max_sequence_tokens, batching.max_rule_words);
}

RunReport run_head(Job& job, const Batching& batching, comm::World& world,
                   const std::vector<CacheRoom>& rooms, Drafter* drafter) {
  return HeadLoop(job, batching, world, rooms, drafter).run();
}

}  // namespace sluice::stage
