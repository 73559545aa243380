#include "stage/flights.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sluice::stage {

namespace {

/// Passes that bring further chunks of prompts (fill_bubbles).
std::int32_t heavy_passes(const Batching& batching, std::int32_t stages) {
  return std::max(batching.micro_batches_for(stages), stages + 1);
}

}  // namespace

std::size_t Flights::most(const Batching& batching, std::int32_t stages) {
  return static_cast<std::size_t>(batching.micro_batches_for(stages) +
                                  heavy_passes(batching, stages));
}

Flights::Flights(Job& job, const Batching& batching, std::int32_t stages, PageLedger ledger,
                 Launch launch, Drafter* drafter)
    : stages_(stages),
      launch_(std::move(launch)),
      admission_(job, batching, stages, std::move(ledger), drafter),
      heavy_passes_(heavy_passes(batching, stages)) {
  flights_.resize(most(batching, stages));
  flights_of_.resize(static_cast<std::size_t>(admission_.micro_batches()), 0);
  for (Pass& pass : flights_) pass.reserve(batching, stages);
}

void Flights::begin() {
  admission_.admit_all();
  for (std::int32_t m = 0; m < admission_.micro_batches(); ++m) launch(m);
  fill_bubbles();
}

void Flights::hear(std::span<const std::uint64_t> cancelled) {
  for (const std::uint64_t id : cancelled) admission_.cancel(id);
  admission_.admit_all();
  fill_bubbles();
}

void Flights::land(const PassResults& results, double seconds) {
  const Pass& pass = flight(landed_++);
  const std::int32_t m = pass.micro_batch;
  const bool awaited = admission_.awaits_tokens(m);
  const std::uint64_t before = admission_.completion_tokens();
  admission_.take(pass, results);
  if (seconds > 0) admission_.took(pass, admission_.completion_tokens() - before, seconds);
  const bool tokens_came = awaited && !admission_.awaits_tokens(m);
  --flights_of(m);
  if (stopped_) return;
  // The micro-batch's next pass.
  admission_.admit(m);
  if (!admission_.awaits_tokens(m) && (tokens_came || flights_of(m) == 0)) launch(m);
  fill_bubbles();
}

bool Flights::may_come() {
  admission_.admit_all();
  fill_bubbles();
  if (under_way()) return true;
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

double Flights::prefill_share_of_oldest() const {
  return static_cast<double>(admission_.prefill_tokens(oldest())) /
         static_cast<double>(oldest().tokens.size());
}

RunReport Flights::counts() const {
  RunReport report;
  report.requests = admission_.requests();
  report.failed = admission_.failed();
  report.cancelled = admission_.cancelled();
  report.prompt_tokens = admission_.prompt_tokens();
  report.completion_tokens = admission_.completion_tokens();
  report.decode_tokens = admission_.decode_tokens();
  report.stepped_back = admission_.stepped_back();
  report.recomputed_tokens = admission_.recomputed_tokens();
  report.drafted_tokens = admission_.drafted_tokens();
  report.accepted_tokens = admission_.accepted_tokens();
  report.shared_prefix_tokens = admission_.shared_prefix_tokens();
  return report;
}

bool Flights::launch(std::int32_t m) {
  if (launched_ - landed_ == static_cast<std::int64_t>(flights_.size())) return false;
  Pass& next = flight(launched_);
  if (!admission_.make_pass(m, next)) return false;
  next.number = launched_;
  ++flights_of(m);
  launch_(next);
  ++launched_;
  admission_.admit_held();
  return true;
}

/// Further chunks of long prompts, while passes of a micro-batch are under way, keep stages busy
/// that would wait: where there are few prompts, and where one micro-batch computes a prompt while
/// the others have little to do. Not where enough passes as large are under way: there a chunk
/// loses nothing by sharing its pass with the next decode step, and saves reading the weights once.
/// (Nor on one stage while tokens are awaited, for that reason.)
void Flights::fill_bubbles() {
  const std::int32_t count = admission_.micro_batches();
  for (std::int32_t idle = 0; idle < count;) {
    const std::int32_t m = turn_;
    turn_ = (turn_ + 1) % count;
    idle = may_fill(m) && launch(m) ? 0 : idle + 1;
  }
}

bool Flights::may_fill(std::int32_t m) {
  if (stages_ == 1 && admission_.awaits_tokens(m)) return false;
  const std::int32_t tokens = admission_.ready_tokens(m);
  // Its requests waited for pages that another micro-batch gave back.
  if (flights_of(m) == 0) return tokens > 0;
  std::int32_t as_large = 0;
  for (std::int64_t number = landed_; number < launched_; ++number) {
    as_large += 2 * flight(number).tokens.size() >= static_cast<std::size_t>(tokens) ? 1 : 0;
  }
  return tokens > 0 && as_large < heavy_passes_;
}

}  // namespace sluice::stage
