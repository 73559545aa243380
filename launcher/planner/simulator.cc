#include "launcher/planner/simulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <memory>
#include <queue>

#include "kernels/device/error.h"
#include "launcher/planner/cost_model.h"
#include "launcher/planner/host_time.h"
#include "launcher/planner/simulated_report.h"
#include "launcher/planner/simulated_requests.h"
#include "launcher/planner/simulated_stage.h"
#include "launcher/planner/stage_places.h"
#include "launcher/planner/steady_state.h"
#include "offload/kv/kv_layout.h"
#include "stage/flights.h"
#include "stage/pass_shape.h"

namespace sluice::launcher {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// Of all stages, as they tell the head.
std::vector<stage::CacheRoom> rooms_of(const SimulatedJob& job) {
  const bool shares = std::ranges::any_of(
      job.requests, [](const SimulatedRequest& request) { return request.shared_tokens > 0; });
  std::vector<stage::CacheRoom> rooms;
  for (const stage::StageLayout& layout : job.stages) {
    const offload::KvShape shape = stage::kv_shape(layout);
    const offload::KvLayout cache(shape, layout.config.policy);
    rooms.push_back({layout.config.policy.cache, shape.page_tokens, layout.cache_pages,
                     cache.pages_per_slot,
                     shares && layout.batching.share_prefixes && cache.shares_prefixes(),
                     layout.model.positions.long_after()});
  }
  return rooms;
}

/// Nobody knows beforehand how many guesses are right.
stage::Batching without_guesses(stage::Batching batching) {
  batching.draft_tokens = 0;
  return batching;
}

/// Rounds of decode steps that are alike: with full pages going to disk as many as a page has
/// tokens.
std::int32_t window_of(const SimulatedJob& job) {
  for (const stage::StageLayout& layout : job.stages) {
    if (layout.config.policy.cache.disk > 0) return stage::kv_shape(layout).page_tokens;
  }
  return 1;
}

/// Hidden states from a stage to the next. Messages go one after the other.
struct Link {
  struct Message {
    std::int64_t pass = 0;
    std::int32_t task = 0;
  };
  std::deque<Message> sends, receives;  // posted
  bool busy = false;
};

class Simulation : public StageNeighbours {
 public:
  Simulation(const SimulatedJob& job, const Machine& machine, const SimulationOptions& options)
      : job_(job),
        options_(options),
        kinds_(kinds_of(machine)),
        requests_(job.requests),
        flights_(requests_, without_guesses(job.stages.front().batching), stage_count(),
                 stage::PageLedger(rooms_of(job), job.stages.front().batching.slots(stage_count())),
                 [this](const stage::Pass& pass) { launched(pass); }),
        steady_(window_of(job)),
        links_(job.stages.size()),
        is_dirty_(job.stages.size(), 0) {
    prices_.reserve(job.stages.size());
    for (std::size_t s = 0; s < job.stages.size(); ++s) {
      const StagePlace place = place_of(job.stages, s, machine);
      kind_of_.push_back(kind_of_stage(job.stages, s, machine));
      prices_.emplace_back(kinds_[kind_of_[s]], place, storage_of(job.placements[s]),
                           job.stages[s].cache_dtype(), job.stages[s].config.limits);
      host_of_.push_back(host_of_stage(job.stages, s, machine));
    }
    ends_.resize(host_of_.back() + 1);
    for (double& end : ends_) hosts_.emplace_back(prices_.front(), end);
    for (std::size_t s = 0; s < job.stages.size(); ++s) {
      stages_.push_back(std::make_unique<SimulatedStage>(job.stages[s], job.placements[s],
                                                         prices_[s], hosts_[host_of_[s]], *this,
                                                         options.most_spans > 0));
    }
    to_head_ =
        stage_count() > 1 ? latency_between(machine, host_of_.back() == host_of_.front()) : 0;
    for (std::size_t s = 1; s < job.stages.size(); ++s) {
      to_stage_.push_back(latency_between(machine, host_of_[s] == host_of_[s - 1]));
    }
  }

  SimulatedRun run() {
    flights_.begin();
    // The run is over when the last pass lands; the weight stream would go on for ever.
    while ((flights_.under_way() || flights_.may_come()) && !has_all_spans()) {
      if (step()) continue;
      throw StandsStill("the simulated run stands still with passes under way (a bug of sluice)");
    }
    return report();
  }

  // StageNeighbours
  void forward_header(std::int32_t stage) override {
    const auto s = static_cast<std::size_t>(stage);
    const auto& pass = passes_[static_cast<std::size_t>(forwarded_[s]++ - landed_)];
    messages_.push({now_ + to_stage_[s], sequence_++, stage + 1, &pass});
  }
  void post_send(std::int32_t stage, std::int64_t pass, std::int32_t task) override {
    links_[static_cast<std::size_t>(stage)].sends.push_back({pass, task});
    start_message(static_cast<std::size_t>(stage));
  }
  void post_receive(std::int32_t stage, std::int64_t pass, std::int32_t task) override {
    links_[static_cast<std::size_t>(stage) - 1].receives.push_back({pass, task});
    start_message(static_cast<std::size_t>(stage) - 1);
  }
  void send_results() override { messages_.push({now_ + to_head_, sequence_++, kHead, nullptr}); }

 private:
  static constexpr std::int32_t kHead = -1;
  struct Message {
    double time = 0;
    std::uint64_t sequence = 0;  // of those of one time the first comes first
    std::int32_t stage = 0;      // kHead: results of the oldest pass
    const stage::Pass* header = nullptr;
    bool operator>(const Message& other) const {
      return time != other.time ? time > other.time : sequence > other.sequence;
    }
  };

  std::int32_t stage_count() const { return static_cast<std::int32_t>(job_.stages.size()); }

  /// False: nothing will happen any more by itself.
  bool step() {
    const auto first = std::min_element(ends_.begin(), ends_.end());
    const double message = messages_.empty() ? kNever : messages_.top().time;
    const double next = std::min(message, *first);
    if (next == kNever) return false;
    count_events(1);
    now_ = next;
    if (message <= *first) {
      const Message arrived = messages_.top();
      messages_.pop();
      if (arrived.stage == kHead) {
        land();
      } else {
        stages_[static_cast<std::size_t>(arrived.stage)]->header(*arrived.header);
        touch(static_cast<std::size_t>(arrived.stage));
      }
    } else {
      const RunningTask ended = hosts_[static_cast<std::size_t>(first - ends_.begin())].end(now_);
      const auto s = static_cast<std::size_t>(ended.stage);
      ended.resource == stage::Resource::send ? end_message(s) : stages_[s]->ended(now_, ended);
      touch(s);
    }
    settle();
    return true;
  }

  void count_events(std::uint64_t more) {
    events_ += more;
    if (options_.most_events == 0 || events_ <= options_.most_events) return;
    throw TooManyEvents(
        fmt::format("the simulation has gone through {} events and is given up", events_));
  }

  bool has_all_spans() const {
    return options_.most_spans > 0 &&
           std::ranges::any_of(stages_, [this](const std::unique_ptr<SimulatedStage>& stage) {
             return stage->spans().size() >= options_.most_spans;
           });
  }

  void touch(std::size_t stage) {
    if (is_dirty_[stage] != 0) return;
    is_dirty_[stage] = 1;
    dirty_.push_back(stage);
  }
  /// Lets every stage go on to which something happened.
  void settle() {
    while (!dirty_.empty()) {
      const std::size_t stage = dirty_.back();
      dirty_.pop_back();
      is_dirty_[stage] = 0;
      stages_[stage]->go_on(now_);
    }
  }

  // ------------------------------------------------------------------------------------- messages

  void start_message(std::size_t stage) {
    Link& link = links_[stage];
    if (link.busy || link.sends.empty() || link.receives.empty()) return;
    link.busy = true;
    RunningTask message;
    message.stage = static_cast<std::int32_t>(stage);
    message.resource = stage::Resource::send;
    message.activity = Activity::send;
    message.is_counted = false;
    message.account = &stages_[stage]->account();
    message.prices = &prices_[stage];
    message.cost = stages_[stage]->message_cost(link.sends.front().pass, link.sends.front().task);
    if (message.cost.seconds > 0) return hosts_[host_of_[stage]].start(now_, message);
    end_message(stage);
  }

  void end_message(std::size_t stage) {
    Link& link = links_[stage];
    link.busy = false;
    stages_[stage]->transferred(link.sends.front().pass, link.sends.front().task);
    stages_[stage + 1]->transferred(link.receives.front().pass, link.receives.front().task);
    link.sends.pop_front();
    link.receives.pop_front();
    touch(stage);
    touch(stage + 1);
    start_message(stage);
  }

  // ----------------------------------------------------------------------------------------- head

  void launched(const stage::Pass& pass) {
    ++launches_;
    if (!decodes(pass)) ++others_under_way_;
    if (skipping_ > 0) {
      if (skipping_ <= passes_.size()) passed_over_.push_back(pass);
      return;
    }
    passes_.push_back(pass);
    begins_.push_back(now_);
    messages_.push({now_, sequence_++, 0, &passes_.back()});
  }

  void land() {
    const stage::Pass& pass = flights_.oldest();
    const double seconds = now_ - std::max(last_landing_, begins_.front());
    last_landing_ = now_;
    const double prefill = flights_.prefill_share_of_oldest();
    prefill_seconds_ += seconds * prefill;
    decode_seconds_ += seconds * (1 - prefill);
    const bool decoded = decodes(pass);
    passes_.pop_front();
    begins_.pop_front();
    ++landed_;
    ++simulated_;
    const std::int64_t before = launches_;
    take_results();
    if (options_.every_pass || options_.most_spans > 0) return;
    if (!decoded || others_under_way_ > 0 || launches_ - before != 1) return steady_.disturbed();
    if (!steady_.landed(passes_.size())) return;
    // A steady state lasts until a request ends, or a row may have to step back.
    const std::int32_t steps = flights_.steps_with_pages(requests_.steps_left() - 1);
    const std::int32_t rounds = steady_.round(progressed(), steps);
    if (rounds > 0) pass_over(rounds);
  }

  void take_results() {
    const stage::Pass& pass = flights_.oldest();
    count_events(pass.rows.size());
    if (!decodes(pass)) --others_under_way_;
    results_.clear();
    results_.number = pass.number;
    results_.micro_batch = pass.micro_batch;
    for (const stage::PassRow& row : pass.rows) {
      if (row.sample) results_.add(row.slot, -1, {0, 0.0F, {}});
    }
    flights_.land(results_);
  }

  /// The head goes on as if so many rounds were over; the passes under way become later ones.
  void pass_over(std::int32_t rounds) {
    passed_over_.clear();
    for (skipping_ = static_cast<std::size_t>(rounds) * passes_.size(); skipping_ > 0;
         --skipping_) {
      const std::int64_t before = launches_;
      take_results();
      if (launches_ - before == 1) continue;
      throw Error(ExitStatus::failure,
                  "a simulated steady state has ended early (a bug of sluice)");
    }
    for (std::size_t i = 0; i < passes_.size(); ++i) passes_[i] = std::move(passed_over_[i]);
  }

  // --------------------------------------------------------------------------------------- report

  Progressed progressed() const {
    Progressed now;
    now.seconds = now_;
    for (const auto& stage : stages_) {
      now.phases.push_back(counted(stage->run()));
      now.phases.push_back(counted(stage->decode()));
    }
    return now;
  }

  SimulatedRun report() {
    steady_.finish();
    for (const auto& stage : stages_) stage->end_run(now_);
    const Progressed& passed_over = steady_.passed_over();
    SimulatedRun result;
    result.run = flights_.counts();
    result.run.wall_seconds = now_ + passed_over.seconds;
    result.run.prefill_seconds = prefill_seconds_;
    result.run.decode_seconds = decode_seconds_ + passed_over.seconds;
    result.passes_simulated = simulated_;
    result.cut_short = has_all_spans();
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      result.stages.push_back(simulated_report(job_.stages[s], job_.placements[s],
                                               kinds_[kind_of_[s]],
                                               static_cast<std::int32_t>(host_of_[s])));
      stage::StageReport& stage = result.stages.back();
      stage.run = stages_[s]->run();
      stage.decode = stages_[s]->decode();
      if (!passed_over.phases.empty()) {
        add(stage.run, passed_over.phases[2 * s]);
        add(stage.decode, passed_over.phases[2 * s + 1]);
      }
      result.spans.push_back(stages_[s]->spans());
    }
    return result;
  }

  const SimulatedJob& job_;
  const SimulationOptions options_;
  const std::vector<Machine> kinds_;  // of devices
  std::vector<std::size_t> kind_of_;  // ... by stage
  SimulatedRequests requests_;
  stage::Flights flights_;
  SteadyState steady_;
  std::vector<CostModel> prices_;
  std::vector<std::size_t> host_of_;  // by stage
  std::vector<double> ends_;          // by host: when its next task is over
  std::deque<HostTime> hosts_;
  std::vector<std::unique_ptr<SimulatedStage>> stages_;
  std::vector<Link> links_;       // by sender
  std::vector<double> to_stage_;  // seconds of a header from stage i to the next
  double to_head_ = 0;            // ... of results
  std::vector<std::size_t> dirty_;
  std::vector<char> is_dirty_;

  double now_ = 0;
  std::uint64_t sequence_ = 0;
  std::priority_queue<Message, std::vector<Message>, std::greater<>> messages_;
  std::deque<stage::Pass> passes_;  // under way
  std::deque<double> begins_;       // ... since when
  std::vector<std::int64_t> forwarded_ = std::vector<std::int64_t>(links_.size(), 0);  // by stage
  std::int64_t landed_ = 0;
  std::int64_t launches_ = 0;
  std::int64_t others_under_way_ = 0;  // passes that do more than decode
  std::size_t skipping_ = 0;           // landings that are left to be passed over
  std::vector<stage::Pass> passed_over_;
  stage::PassResults results_;
  std::uint64_t simulated_ = 0;
  std::uint64_t events_ = 0;
  double last_landing_ = 0, prefill_seconds_ = 0, decode_seconds_ = 0;
};

}  // namespace

SimulatedRun simulate(const SimulatedJob& job, const Machine& machine,
                      const SimulationOptions& options) {
  return Simulation(job, machine, options).run();
}

}  // namespace sluice::launcher
