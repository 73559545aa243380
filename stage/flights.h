// Which passes are under way, and which is made next: the head's rules, without messages and
// without a clock. The head's loop (head_loop.cc) runs them over the world, the simulator
// (launcher/planner/simulator.h) in virtual time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "stage/head.h"

namespace sluice::stage {

/// Passes return in the order they were made, as every stage works them off one after the other.
class Flights {
 public:
  /// Puts a pass on its way. The pass stays as it is until it lands.
  using Launch = std::function<void(const Pass& pass)>;

  Flights(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger, Launch launch,
          Drafter* drafter = nullptr);

  /// Most passes under way at a time: of each micro-batch one that samples, or is its only one; and
  /// those that bring further chunks of prompts.
  static std::size_t most(const Batching& batching, std::int32_t stages);

  /// The first passes.
  void begin();
  /// New requests have come; these were cancelled.
  void hear(std::span<const std::uint64_t> cancelled);
  /// From now on no request is asked for and no pass is made.
  void stop() { stopped_ = true; }
  /// Takes in the oldest pass under way, with its results, and makes what comes after it.
  /// `seconds` of the pipeline's time were its own; 0: not known.
  void land(const PassResults& results, double seconds = 0);
  /// For when nothing is under way. False: the job is done. True: there is something now, or the
  /// job may give something later. Throws CapacityError for a request that finds no pages even so.
  bool may_come();

  bool under_way() const { return landed_ < launched_; }
  /// All requests that the job ever gives have ended.
  bool is_done() const { return admission_.is_done(); }
  std::int64_t launched() const { return launched_; }  // passes so far
  std::int64_t landed() const { return landed_; }
  /// Pre: under_way().
  const Pass& oldest() const { return flight(landed_); }
  /// Of its new tokens the part that is prompt, not answer.
  double prefill_share_of_oldest() const;
  /// Decode steps of all rows, at most `most`, in which none can lack a page.
  std::int32_t steps_with_pages(std::int32_t most) const {
    return admission_.steps_with_pages(most);
  }
  /// What the admission counted. The times are the caller's to fill in.
  RunReport counts() const;

 private:
  Pass& flight(std::int64_t number) {
    return flights_[static_cast<std::size_t>(number) % flights_.size()];
  }
  const Pass& flight(std::int64_t number) const {
    return flights_[static_cast<std::size_t>(number) % flights_.size()];
  }
  std::int32_t& flights_of(std::int32_t m) { return flights_of_[static_cast<std::size_t>(m)]; }

  bool launch(std::int32_t m);
  void fill_bubbles();
  bool may_fill(std::int32_t m);

  const std::int32_t stages_;
  const Launch launch_;
  Admission admission_;
  std::int32_t heavy_passes_;  // that keep all stages busy
  std::vector<Pass> flights_;
  std::vector<std::int32_t> flights_of_;  // by micro-batch: passes under way
  std::int32_t turn_ = 0;
  std::int64_t launched_ = 0;
  std::int64_t landed_ = 0;
  bool stopped_ = false;
};

}  // namespace sluice::stage
