// How busy the head keeps its stages, in virtual time: passes of known cost go through stages one
// after the other, and come back to the head's own rules.
#include "stage/flights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "tests/support/list_job.h"

namespace sluice::stage {
namespace {

/// Of a pass on one stage, in microseconds.
struct PassCost {
  double fixed = 0;
  double per_token = 0;
  double link = 0;
};

/// What became of a job. Times in microseconds.
struct Outcome {
  double makespan = 0;
  double busy = 0;  // of each stage
  double useful() const { return busy / makespan; }
};

/// Stages that work passes off in order, and answer each row that samples.
class VirtualPipeline {
 public:
  VirtualPipeline(Job& job, const Batching& batching, std::int32_t stages, const PassCost& cost)
      : cost_(cost),
        free_at_(static_cast<std::size_t>(stages), 0),
        flights_(job, batching, stages, PageLedger(), [this](const Pass& pass) { work(pass); }) {}

  Outcome run() {
    flights_.begin();
    while (flights_.under_way()) {
      now_ = back_at_.front();
      back_at_.pop_front();
      const Pass& pass = flights_.oldest();
      PassResults results;
      results.number = pass.number;
      results.micro_batch = pass.micro_batch;
      for (const PassRow& row : pass.rows) {
        if (row.sample) results.add(row.slot, -1, {7, 0.0F, {}});
      }
      flights_.land(results);
    }
    EXPECT_TRUE(flights_.is_done());
    return {free_at_.back(), busy_};
  }

 private:
  void work(const Pass& pass) {
    const double takes = cost_.fixed + cost_.per_token * static_cast<double>(pass.tokens.size());
    double at = now_;
    for (double& free : free_at_) {
      free = std::max(free, at) + takes;
      at = free + cost_.link;
    }
    back_at_.push_back(at);
    busy_ += takes;
  }

  PassCost cost_;
  std::vector<double> free_at_;  // by stage
  std::deque<double> back_at_;   // by pass under way
  double now_ = 0;
  double busy_ = 0;
  Flights flights_;
};

/// `scripts/bench pipeline`, "both, with refill": every tenth prompt is long, and one of its chunks
/// takes as long as five decode steps.
Outcome ragged_job(std::int32_t micro_batches) {
  Batching batching;
  batching.gpu_batch_size = 4;
  batching.micro_batches = micro_batches;
  batching.max_tokens_per_gpu_batch = 256;
  batching.max_sequence_tokens = 1520;
  std::vector<Request> requests(100);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt.assign(i % 10 == 0 ? 1500 : 8, 5);
    requests[i].max_tokens = 20;
  }
  support::ListJob job(std::move(requests));
  return VirtualPipeline(job, batching, 4, {8000, 156, 1600}).run();
}

/// With stages + 1 micro-batches a long prompt's chunks leave a gap behind them: while they are
/// under way on all stages, each decode step behind them takes that much longer, and the few that
/// there are do not fill the first stage. Twice as many do.
TEST(Flights, StagesStayEvenWherePromptsAreRagged) {
  const Outcome few = ragged_job(5);
  const Outcome many = ragged_job(10);
  EXPECT_GT(few.useful(), 0.87);
  EXPECT_GT(many.useful(), 0.95);
  EXPECT_LT(many.makespan, 0.95 * few.makespan);
}

}  // namespace
}  // namespace sluice::stage
