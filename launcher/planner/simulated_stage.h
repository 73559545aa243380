// One stage in virtual time: the executor's thread, the queues that it fills, the weight stream and
// the outbox, each over the tasks and edges that the executor runs (stage/schedule.h,
// schedule_edges.h).
//
// Not in it: the time that issuing a task takes, and chunks of a weight group's disk rows (a group
// is read, then copied, while the next one is read).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <vector>

#include "launcher/planner/cost_model.h"
#include "launcher/planner/host_time.h"
#include "launcher/planner/simulated_weights.h"
#include "stage/pass_shape.h"
#include "stage/report.h"
#include "stage/schedule_edges.h"

namespace sluice::launcher {

/// What a stage tells the others.
class StageNeighbours {
 public:
  virtual ~StageNeighbours() = default;
  /// The stage takes in a header: it goes on to the next stage.
  virtual void forward_header(std::int32_t stage) = 0;
  /// Hidden states may leave, or may come; in the order of passes and GPU batches.
  virtual void post_send(std::int32_t stage, std::int64_t pass, std::int32_t task) = 0;
  virtual void post_receive(std::int32_t stage, std::int64_t pass, std::int32_t task) = 0;
  /// Of the last stage: the results of its oldest pass are whole.
  virtual void send_results() = 0;
};

class SimulatedStage {
 public:
  /// All references must outlive it.
  SimulatedStage(const stage::StageLayout& layout,
                 const std::vector<offload::GroupPlacement>& placement, const CostModel& prices,
                 HostTime& host, StageNeighbours& neighbours, bool keeps_spans);

  /// The header of a pass is here; it stays valid until the stage has taken it in.
  void header(const stage::Pass& pass) { headers_.push_back(&pass); }
  /// Starts what can be started.
  void go_on(double now);
  /// A task of this stage is over; then go_on().
  void ended(double now, const RunningTask& task);
  /// ... that was a message, sent or received.
  void transferred(std::int64_t pass, std::int32_t task);

  StageAccount& account() { return account_; }
  TaskCost message_cost(std::int64_t pass, std::int32_t task) const;
  /// Closes the pass under way: nothing comes any more.
  void end_run(double now) { close_pass(now); }
  /// The phases so far; of the pass under way only what was closed.
  const stage::PhaseReport& run() const { return run_; }
  const stage::PhaseReport& decode() const { return decode_; }
  const std::vector<Span>& spans() const { return spans_; }

 private:
  static constexpr std::int64_t kNoPass = -1;
  static constexpr std::size_t kLanes = 4;        // compute, both copies, host compute
  static constexpr std::size_t kLivePasses = 16;  // two are under way, and two still leaving

  /// A pass whose tasks are not all done, or that later tasks may still name.
  struct LivePass {
    std::int64_t number = kNoPass;
    stage::ScheduleShape shape;
    std::vector<stage::Task> tasks;
    std::vector<char> done;
    bool decodes = false;
  };
  struct Entry {
    std::int64_t pass = kNoPass;
    std::int32_t task = -1;
  };
  // In the place of a task: all of the pass is issued; an item of the weight stream, whose group
  // is in the place of the pass.
  static constexpr std::int32_t kEndOfPass = -1;
  static constexpr std::int32_t kLoadItem = -2;
  static constexpr std::int32_t kReadItem = -3;
  struct WaitingQueue {
    std::deque<Entry> entries;
    bool running = false;
    double ready = -1;  // when the first entry could have begun; < 0: it could not
  };

  static std::size_t index(std::int32_t number) { return static_cast<std::size_t>(number); }
  static std::size_t lane_of(stage::Resource resource) {
    switch (resource) {
      case stage::Resource::compute:
        return 0;
      case stage::Resource::host_to_device:
        return 1;
      case stage::Resource::device_to_host:
        return 2;
      default:
        return 3;
    }
  }
  LivePass& live(std::int64_t pass) { return live_[static_cast<std::size_t>(pass) % kLivePasses]; }
  const LivePass& live(std::int64_t pass) const {
    return live_[static_cast<std::size_t>(pass) % kLivePasses];
  }
  WaitingQueue& queue(stage::Queue which) { return queues_[static_cast<std::size_t>(which)]; }

  bool take_header();
  static void check_done(const LivePass& pass);
  bool post_receives();
  bool run_executor(double now);
  bool issue(const LivePass& pass, std::int32_t index);
  bool may_pass(const LivePass& pass, const stage::Task& task);
  bool release();
  bool start_lanes(double now);
  bool start_to_device(double now);
  bool start_outbox(double now);
  bool start_one_of(double now, std::size_t lane, std::initializer_list<stage::Queue> queues);
  bool start_read(double now);
  bool is_ready(double now, WaitingQueue& waiting);
  void start(double now, stage::Queue which);
  void start_weights(double now, std::int32_t group, bool is_load);
  void run(double now, stage::Resource resource, const TaskCost& cost, const Entry& entry);
  const stage::Task* blocking(const LivePass& pass, const stage::Task& task) const;
  void look_for_stall();
  void close_pass(double now);
  void add_bytes(const stage::TaskWork& work);

  const stage::StageLayout& layout_;
  const CostModel& prices_;
  HostTime& host_;
  StageNeighbours& neighbours_;
  const bool keeps_spans_;
  const std::vector<offload::Tier> tiers_;  // by slot
  const stage::ScheduleShape shape_;        // of no pass
  const stage::StageWork work_;
  stage::ScheduleEdges edges_;
  StageAccount account_;

  std::deque<const stage::Pass*> headers_;
  std::array<LivePass, kLivePasses> live_;
  std::int64_t arrived_ = 0;  // passes whose header was taken in
  std::int64_t begun_ = 0;    // ... that the executor has begun
  std::int64_t current_ = kNoPass;
  std::int32_t at_ = 0;         // task that the executor comes to next
  std::deque<Entry> receives_;  // not posted yet
  std::deque<Entry> releases_;  // issued, and not done
  std::array<WaitingQueue, stage::kQueueCount> queues_;
  std::array<bool, kLanes> lane_busy_ = {};

  SimulatedWeights weights_;
  double weights_ready_ = -1;  // when the next copy could have begun; < 0: it could not

  double idle_since_ = 0;                  // of the compute lane
  Activity stall_ = Activity::stall_pass;  // why it stands still
  Activity executor_waits_ = Activity::stall_pass;
  double closed_at_ = 0;
  bool is_open_ = false;  // a pass is under way, to be closed
  bool open_decodes_ = false;
  stage::ComputeWork open_work_;
  stage::ActivityTotals closed_;
  stage::PhaseReport run_;
  stage::PhaseReport decode_;
  std::vector<Span> spans_;
};

}  // namespace sluice::launcher
