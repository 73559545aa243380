// The head's loop: passes out, results in, and sleep while there is neither.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "stage/head.h"
#include "stage/topology.h"

namespace sluice::stage {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Passes that bring further chunks of prompts (fill_bubbles).
std::int32_t heavy_passes(const Batching& batching, std::int32_t stages) {
  return std::max(batching.micro_batches_for(stages), stages + 1);
}

/// Of each micro-batch one that samples, or is its only one; and the heavy ones.
std::size_t most_flights(const Batching& batching, std::int32_t stages) {
  return static_cast<std::size_t>(batching.micro_batches_for(stages) +
                                  heavy_passes(batching, stages));
}

/// A pass under way and its message buffer.
struct Flight {
  Pass pass;
  std::vector<std::byte> message;
  comm::Transfer sent;
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

/// Flights are taken in turn: passes return in the order they were sent, as every stage works them
/// off one after the other.
class HeadLoop {
 public:
  HeadLoop(Job& job, const Batching& batching, comm::World& world,
           const std::vector<CacheRoom>& rooms)
      : world_(world),
        topology_(Topology::of_ranks(world.size())),
        line_(job.line()),
        admission_(job, batching, topology_.stages,
                   PageLedger(rooms, batching.slots(topology_.stages))),
        heavy_passes_(heavy_passes(batching, topology_.stages)),
        results_bell_(world, line_.bell()) {
    flights_.resize(most_flights(batching, topology_.stages));
    flights_of_.resize(static_cast<std::size_t>(admission_.micro_batches()), 0);
    for (Flight& flight : flights_) {
      flight.message.resize(max_pass_bytes(batching, topology_.stages));
      flight.pass.freed.reserve(static_cast<std::size_t>(batching.slots(topology_.stages)));
    }
    results_.reserve(batching);
    for (std::vector<std::byte>& buffer : incoming_) buffer.resize(max_results_bytes(batching));
  }

  RunReport run() {
    const auto begin = std::chrono::steady_clock::now();
    last_ = begin;
    admission_.admit_all();
    for (std::int32_t m = 0; m < admission_.micro_batches(); ++m) launch(m);
    fill_bubbles();
    for (;;) {
      const std::uint32_t rings = line_.bell().count();
      if (line_.take_news()) hear();
      if (results_came()) {
        go_on(land());
      } else if (landed_ < launched_ || may_come()) {
        line_.bell().wait(rings);
      } else {
        break;
      }
    }
    Flight& end = flights_.front();
    end.pass.clear();
    end.pass.end = true;
    end.pass.number = launched_;
    world_.wait(world_.send(comm::Route::passes, topology_.head(), encode(end.pass, end.message)));
    report_.requests = admission_.requests();
    report_.failed = admission_.failed();
    report_.cancelled = admission_.cancelled();
    report_.prompt_tokens = admission_.prompt_tokens();
    report_.completion_tokens = admission_.completion_tokens();
    report_.decode_tokens = admission_.decode_tokens();
    report_.wall_seconds = seconds_since(begin);
    return report_;
  }

 private:
  /// New requests, and cancelled ones.
  void hear() {
    line_.take_cancelled(cancelled_);
    for (const std::uint64_t id : cancelled_) admission_.cancel(id);
    admission_.admit_all();
    fill_bubbles();
  }

  bool results_came() { return landed_ < launched_ && world_.done(receiving_, &result_bytes_); }

  /// After a landing: the micro-batch's next pass.
  void go_on(std::int32_t m) {
    admission_.admit(m);
    if (!admission_.awaits_tokens(m) && (tokens_came_ || flights_of(m) == 0)) launch(m);
    fill_bubbles();
  }

  /// Nothing is under way. False: the job is done. True: there is something now, or the job may
  /// give something later.
  bool may_come() {
    world_.throw_if_failed();
    admission_.admit_all();
    fill_bubbles();
    if (landed_ < launched_) return true;
    if (admission_.has_waiting()) {
      throw CapacityError(
          "a request needs more pages of the KV cache than its stages have in all; give the cache "
          "more room (policy.cache, budget) or make the request shorter");
    }
    if (admission_.active_rows() > 0) {
      throw Error(ExitStatus::failure,
                  std::to_string(admission_.active_rows()) +
                      " requests are not finished, but no pass can be made for them; this is a bug "
                      "in sluice");
    }
    return !admission_.is_done();
  }

  Flight& flight(std::int64_t number) {
    return flights_[static_cast<std::size_t>(number) % flights_.size()];
  }
  std::int32_t& flights_of(std::int32_t m) { return flights_of_[static_cast<std::size_t>(m)]; }

  bool launch(std::int32_t m) {
    if (launched_ - landed_ == static_cast<std::int64_t>(flights_.size())) return false;
    Flight& next = flight(launched_);
    if (!admission_.make_pass(m, next.pass)) return false;
    next.pass.number = launched_;
    next.sent = world_.send(comm::Route::passes, topology_.head(), encode(next.pass, next.message));
    next.begin = std::chrono::steady_clock::now();
    ++flights_of(m);
    if (launched_++ == landed_) receive_results();
    return true;
  }

  /// The receive of the next results is posted before those at hand are looked at.
  void receive_results() {
    receiving_ = world_.receive(comm::Route::results, topology_.last(), incoming_[landed_ % 2]);
  }

  /// Takes in the oldest pass under way, whose results have come; returns its micro-batch.
  std::int32_t land() {
    Flight& oldest = flight(landed_);
    const std::span<const std::byte> buffer(incoming_[landed_ % 2]);
    const std::size_t bytes = result_bytes_;
    if (++landed_ < launched_) receive_results();
    world_.wait(oldest.sent);
    decode(buffer.first(bytes), results_);
    account(oldest);
    const std::int32_t m = oldest.pass.micro_batch;
    const bool awaited = admission_.awaits_tokens(m);
    admission_.take(oldest.pass, results_);
    tokens_came_ = awaited && !admission_.awaits_tokens(m);
    --flights_of(m);
    return m;
  }

  /// Further chunks of long prompts, while passes of a micro-batch are under way, keep stages busy
  /// that would wait: where there are few prompts, and where one micro-batch computes a prompt
  /// while the others have little to do. Not where enough passes as large are under way: there a
  /// chunk loses nothing by sharing its pass with the next decode step, and saves reading the
  /// weights once. (Nor on one stage while tokens are awaited, for that reason.)
  void fill_bubbles() {
    const std::int32_t count = admission_.micro_batches();
    for (std::int32_t idle = 0; idle < count;) {
      const std::int32_t m = turn_;
      turn_ = (turn_ + 1) % count;
      idle = may_fill(m) && launch(m) ? 0 : idle + 1;
    }
  }
  bool may_fill(std::int32_t m) {
    if (topology_.stages == 1 && admission_.awaits_tokens(m)) return false;
    const std::int32_t tokens = admission_.ready_tokens(m);
    // Its requests waited for pages that another micro-batch gave back.
    if (flights_of(m) == 0) return tokens > 0;
    std::int32_t as_large = 0;
    for (std::int64_t number = landed_; number < launched_; ++number) {
      as_large += 2 * flight(number).pass.tokens.size() >= static_cast<std::size_t>(tokens) ? 1 : 0;
    }
    return tokens > 0 && as_large < heavy_passes_;
  }

  /// Time from the last landing (or this launch, if later) goes to the pass that lands now.
  void account(const Flight& landing) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds =
        std::chrono::duration<double>(now - std::max(last_, landing.begin)).count();
    last_ = now;
    const double share = static_cast<double>(admission_.prefill_tokens(landing.pass)) /
                         static_cast<double>(landing.pass.tokens.size());
    report_.prefill_seconds += seconds * share;
    report_.decode_seconds += seconds * (1.0 - share);
  }

  comm::World& world_;
  Topology topology_;
  HeadLine& line_;
  Admission admission_;
  std::int32_t heavy_passes_;  // that keep all stages busy
  std::vector<Flight> flights_;
  std::vector<std::int32_t> flights_of_;  // by micro-batch: passes under way
  std::vector<std::byte> incoming_[2];    // by pass number % 2
  comm::Transfer receiving_;
  std::size_t result_bytes_ = 0;          // that came with it
  std::vector<std::uint64_t> cancelled_;  // scratch
  bool tokens_came_ = false;              // with the pass that landed last
  std::int32_t turn_ = 0;
  PassResults results_;
  RunReport report_;
  std::int64_t launched_ = 0;
  std::int64_t landed_ = 0;
  std::chrono::steady_clock::time_point last_;
  ResultsBell results_bell_;
};

}  // namespace

std::uint64_t head_memory(const Batching& batching, std::int32_t stages) {
  // A pass has the same content as its message, which lies beside it.
  const std::uint64_t flights =
      2 * std::uint64_t{most_flights(batching, stages)} * max_pass_bytes(batching, stages);
  const auto slots = static_cast<std::uint64_t>(batching.slots(stages));
  return flights + 3 * max_results_bytes(batching) +
         slots * Admission::slot_bytes(batching.max_sequence_tokens);
}

RunReport run_head(Job& job, const Batching& batching, comm::World& world,
                   const std::vector<CacheRoom>& rooms) {
  return HeadLoop(job, batching, world, rooms).run();
}

}  // namespace sluice::stage
