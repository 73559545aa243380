#include "launcher/planner/plan_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/planner/least_plan.h"
#include "launcher/planner/plan_prediction.h"

namespace sluice::launcher {

namespace {

constexpr std::int32_t kMostSequencesOfBatch = 1024;
constexpr std::int32_t kMostTokensOfPass = 16384;
constexpr std::int32_t kFewestTokensOfPass = 16;
constexpr std::int32_t kFewTokensOfPass = 512;  // Batching's default
constexpr std::int32_t kGpuBatches[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

/// A lower number counts as better. Sequences, not tokens: a job may want no answers.
double rank_of(double sequences, const JobSeconds& seconds, double limit) {
  const bool late = limit > 0 && seconds.latency > limit;
  return late ? seconds.latency * 1e12 : -sequences / seconds.total;
}

class Search {
 public:
  Search(const PlanRequest& request, const SearchOptions& options)
      : request_(request),
        options_(options),
        builder_(request),
        stages_(builder_.papers().stages()) {}

  FoundPlans run() {
    for (const PlanChoice& choice : first_choices()) try_choice(choice);
    if (scored_.empty()) try_smallest();
    if (builder_.has_unlike_devices() && !scored_.empty()) score_again();
    for (int turn = 0; turn < 3; ++turn) {
      for (const ScoredChoice& best : best_scored(8)) {
        for (const PlanChoice& choice : neighbours(best.choice)) try_choice(choice);
      }
    }
    FoundPlans found;
    found.scored = scored_.size();
    found.plans = build_best();
    if (found.plans.empty()) found.plans.push_back(least_plan(builder_));
    double tasks = options_.tasks;
    simulate_best(found.plans, tasks);
    climb(found.plans, tasks);
    found.curve = curve();
    refuse_late(found.plans.front());
    return found;
  }

 private:
  /// What is tried first: as many micro-batches as a run takes that is not told.
  std::int32_t usual_micro_batches() const {
    stage::Batching batching = request_.batching;
    if (!request_.decided.micro_batches) batching.micro_batches = 0;
    return of_rows(batching.micro_batches_for(stages_));
  }
  /// A micro-batch more than stages hides how long messages take; one for each stage leaves memory
  /// for larger ones; twice as many keep stages that are not alike from waiting for each other.
  std::set<std::int32_t> micro_batches() const {
    if (request_.decided.micro_batches || stages_ == 1) return {usual_micro_batches()};
    return {of_rows(stages_), of_rows(stages_ + 1), of_rows(2 * stages_)};
  }
  /// No more than the job has sequences, unless the user says so.
  std::int32_t of_rows(std::int32_t micro_batches) const {
    const std::int64_t count = request_.job.rows;
    if (count == 0 || request_.decided.micro_batches) return micro_batches;
    return static_cast<std::int32_t>(std::min<std::int64_t>(micro_batches, count));
  }

  std::vector<std::int32_t> batch_sizes(std::int32_t micro_batches) const {
    if (request_.decided.gpu_batch_size) return {request_.batching.gpu_batch_size};
    const std::int64_t count = request_.job.rows;
    std::set<std::int32_t> sizes;
    for (std::int32_t size = 1; size <= kMostSequencesOfBatch; size *= 2) {
      if (count == 0 || size <= count) sizes.insert(size);
    }
    for (const std::int32_t batches : kGpuBatches) {
      if (count == 0) break;
      const std::int64_t fill = (count - 1) / (std::int64_t{micro_batches} * batches) + 1;
      if (fill <= kMostSequencesOfBatch) sizes.insert(static_cast<std::int32_t>(fill));
    }
    return {sizes.begin(), sizes.end()};
  }

  std::vector<std::int32_t> batch_counts(std::int32_t size, std::int32_t micro_batches) const {
    if (request_.decided.num_gpu_batches) return {request_.batching.num_gpu_batches};
    std::vector<std::int32_t> counts;
    for (const std::int32_t batches : kGpuBatches) {
      if (is_needed(size, batches, micro_batches)) counts.push_back(batches);
    }
    return counts;
  }

  /// The job has sequences for the last GPU batch, and slots can be counted.
  bool is_needed(std::int32_t size, std::int32_t batches, std::int32_t micro_batches) const {
    const std::int64_t each = std::int64_t{size} * micro_batches;
    const std::int64_t count = request_.job.rows;
    return each * batches <= stage::kMaxSlots && batches <= stage::kMaxGpuBatches &&
           (count == 0 || batches == 1 || each * (batches - 1) < count);
  }

  std::vector<std::int32_t> pass_tokens(std::int32_t size) const {
    if (request_.decided.max_tokens) {
      return {std::max(request_.batching.max_tokens_per_gpu_batch, size)};
    }
    std::set<std::int32_t> tokens;
    for (const std::int32_t most : {kFewTokensOfPass, 8 * kFewTokensOfPass}) {
      tokens.insert(useful_tokens(size, most));
    }
    return {tokens.begin(), tokens.end()};
  }
  /// A pass has no use for more tokens than its prompts have, and needs one of each sequence.
  std::int32_t useful_tokens(std::int32_t size, std::int32_t most) const {
    const std::int64_t prompts = std::int64_t{size} * builder_.mix().prompt_tokens;
    return static_cast<std::int32_t>(
        std::max<std::int64_t>(size, std::min<std::int64_t>(most, prompts)));
  }

  std::vector<bool> attentions() const {
    if (request_.decided.cpu_cache_compute) {
      return {request_.stages.front().policy.cpu_cache_compute};
    }
    if (request_.machine->host.decode_attention.empty()) return {false};
    return {false, true};
  }

  std::vector<PlanChoice> first_choices() const {
    std::vector<PlanChoice> choices;
    const std::int32_t micro = usual_micro_batches();
    for (const std::int32_t size : batch_sizes(micro)) {
      for (const std::int32_t tokens : pass_tokens(size)) {
        for (const std::int32_t batches : batch_counts(size, micro)) {
          stage::Batching batching = request_.batching;
          batching.gpu_batch_size = size;
          batching.num_gpu_batches = batches;
          batching.micro_batches = micro;
          batching.max_tokens_per_gpu_batch = tokens;
          add_types(batching, choices);
        }
      }
    }
    return choices;
  }
  void add_types(const stage::Batching& batching, std::vector<PlanChoice>& choices) const {
    for (const bool on_host : attentions()) {
      for (const offload::Compression compression : request_.compressions) {
        for (const std::optional<DType>& dtype : request_.cache_dtypes) {
          choices.push_back({batching, on_host, compression, dtype});
        }
      }
    }
  }

  void try_choice(const PlanChoice& choice) {
    if (!tried_.insert(choice).second) return;
    if (const auto scored = builder_.score(choice)) scored_.push_back(*scored);
  }

  /// Where no usual choice fits: sequences one by one, in short pieces.
  void try_smallest() {
    stage::Batching batching = request_.batching;
    const Decided& decided = request_.decided;
    if (!decided.gpu_batch_size) batching.gpu_batch_size = 1;
    if (!decided.num_gpu_batches) batching.num_gpu_batches = 1;
    std::int32_t micro = usual_micro_batches();
    for (; micro >= 1; micro = decided.micro_batches ? 0 : micro - 1) {
      batching.micro_batches = micro;
      for (const std::int32_t tokens : {64, kFewestTokensOfPass}) {
        if (!decided.max_tokens) {
          batching.max_tokens_per_gpu_batch = std::max(tokens, batching.gpu_batch_size);
        }
        std::vector<PlanChoice> choices;
        add_types(batching, choices);
        for (const PlanChoice& choice : choices) try_choice(choice);
      }
    }
  }

  void refuse_late(const Plan& best) const {
    const double limit = request_.latency_limit;
    if (limit <= 0 || best.seconds.latency <= limit) return;
    throw CapacityError(
        fmt::format("--latency-limit {:g}: no plan for machine '{}' is that fast; in the fastest "
                    "that was found a sequence takes {:.3g} s",
                    limit, request_.machine->name, best.seconds.latency));
  }

  double rank(const ScoredChoice& scored) const {
    const auto sequences = static_cast<double>(builder_.sequences(scored.choice.batching));
    return rank_of(sequences, scored.seconds, request_.latency_limit);
  }
  double rank(const Plan& plan) const {
    return rank_of(static_cast<double>(plan.sequences), plan.seconds, request_.latency_limit);
  }

  /// By the split of the best choice: with even layers the slowest device decides them all.
  void score_again() {
    builder_.use_layers_of(best_scored(1).front().choice);
    std::vector<ScoredChoice> before;
    before.swap(scored_);
    tried_.clear();
    for (const ScoredChoice& one : before) try_choice(one.choice);
  }

  std::vector<ScoredChoice> best_scored(std::size_t count) const {
    std::vector<ScoredChoice> best = scored_;
    std::ranges::stable_sort(best, {}, [this](const ScoredChoice& one) { return rank(one); });
    best.resize(std::min(best.size(), count));
    return best;
  }

  /// Choices a step away, where nothing forbids the step.
  std::vector<PlanChoice> neighbours(const PlanChoice& of) const {
    std::vector<PlanChoice> choices;
    const stage::Batching& from = of.batching;
    const auto add = [&](std::int32_t micro, std::int32_t size, std::int32_t batches,
                         std::int32_t tokens) {
      PlanChoice choice = of;
      stage::Batching& batching = choice.batching;
      batching.micro_batches = micro;
      if (!request_.decided.gpu_batch_size) batching.gpu_batch_size = std::max(size, 1);
      if (!request_.decided.num_gpu_batches) batching.num_gpu_batches = std::max(batches, 1);
      batching.max_tokens_per_gpu_batch =
          request_.decided.max_tokens
              ? std::max(from.max_tokens_per_gpu_batch, batching.gpu_batch_size)
              : useful_tokens(batching.gpu_batch_size, std::max(tokens, 1));
      if (is_needed(batching.gpu_batch_size, batching.num_gpu_batches, batching.micro_batches)) {
        choices.push_back(choice);
      }
    };
    const std::int32_t micro = from.micro_batches;
    const std::int32_t size = from.gpu_batch_size;
    const std::int32_t batches = from.num_gpu_batches;
    const std::int32_t tokens = from.max_tokens_per_gpu_batch;
    for (const std::int32_t step : {std::max(size / 8, 1), std::max(size / 4, 1)}) {
      add(micro, size - step, batches, tokens);
      add(micro, size + step, batches, tokens);
    }
    add(micro, size, batches - 1, tokens);
    add(micro, size, batches + 1, tokens);
    add(micro, size / 2, batches * 2, tokens);
    add(micro, size * 2, batches / 2, tokens);
    add(micro, size, batches, tokens / 2);
    add(micro, size, batches, std::min(tokens * 2, kMostTokensOfPass));
    for (const bool on_host : attentions()) {
      choices.push_back(of);
      choices.back().cpu_cache_compute = on_host;
    }
    for (const std::int32_t other : micro_batches()) {
      if (other == micro) continue;
      add(other, size, batches, tokens);
      add(other, size * micro / other, batches, tokens);  // as many sequences under way
    }
    return choices;
  }

  std::vector<Plan> build_best() {
    std::vector<Plan> plans;
    for (const ScoredChoice& scored : best_scored(scored_.size())) {
      if (plans.size() == options_.built) break;
      auto plan = builder_.build(scored.choice);
      if (!plan) continue;
      built_.insert(scored.choice);
      plans.push_back(std::move(*plan));
    }
    sort(plans);
    return plans;
  }

  /// Simulated plans first: an estimate is not compared with a simulation.
  void sort(std::vector<Plan>& plans) const {
    std::ranges::stable_sort(
        plans, {}, [this](const Plan& plan) { return std::pair(!plan.simulated, rank(plan)); });
  }

  void simulate_best(std::vector<Plan>& plans, double& tasks) {
    bool any = false;
    std::vector<Plan> kept;
    for (Plan& plan : plans) {
      const double needed = tasks_of(request_, plan);
      const bool fits = needed <= tasks || (!any && needed <= options_.most_tasks);
      if (fits) tasks -= needed;
      any = any || fits;
      if (!fits || simulate(plan)) kept.push_back(std::move(plan));
    }
    if (kept.empty()) kept.push_back(least_plan(builder_));
    plans = std::move(kept);
    sort(plans);
  }
  /// False: nobody should try to run it.
  bool simulate(Plan& plan) {
    try {
      predict(builder_.papers(), plan);
      return true;
    } catch (const StandsStill&) {
      return false;
    }
  }

  /// From the best plan to better ones a step away, as far as simulations are allowed.
  void climb(std::vector<Plan>& plans, double tasks) {
    for (bool improves = plans.front().simulated; improves;) {
      const double best = rank(plans.front());
      improves = false;
      for (const PlanChoice& choice : neighbours(choice_of(plans.front()))) {
        if (tasks <= 0) break;
        if (!built_.insert(choice).second) continue;
        auto plan = builder_.build(choice);
        if (!plan) continue;
        const double needed = tasks_of(request_, *plan);
        tasks -= needed;
        if (tasks < 0) break;
        if (!simulate(*plan)) continue;
        improves = improves || rank(*plan) < best;
        plans.push_back(std::move(*plan));
      }
      sort(plans);
    }
  }

  /// Of the choices that nothing beats in both.
  std::vector<LatencyPoint> curve() const {
    std::vector<LatencyPoint> points;
    for (const ScoredChoice& scored : scored_) {
      points.push_back({scored.seconds.latency, scored.tokens_per_second});
    }
    std::ranges::sort(points, {}, &LatencyPoint::latency);
    std::vector<LatencyPoint> best;
    for (const LatencyPoint& point : points) {
      if (best.empty() || point.tokens_per_second > best.back().tokens_per_second) {
        best.push_back(point);
      }
    }
    return best;
  }

  const PlanRequest& request_;
  const SearchOptions& options_;
  PlanBuilder builder_;
  std::int32_t stages_;
  std::set<PlanChoice> tried_;
  std::vector<ScoredChoice> scored_;
  std::set<PlanChoice> built_;
};

}  // namespace

FoundPlans search_plans(const PlanRequest& request, const SearchOptions& options) {
  return Search(request, options).run();
}

}  // namespace sluice::launcher
