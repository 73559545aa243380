#include "launcher/planner/simulated_stage.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/planner/task_activity.h"

namespace sluice::launcher {

namespace {

using stage::Queue;
using stage::Resource;
using stage::Task;
using stage::TaskKind;

std::int64_t nanoseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

}  // namespace

SimulatedStage::SimulatedStage(const stage::StageLayout& layout,
                               const std::vector<offload::GroupPlacement>& placement,
                               const CostModel& prices, HostTime& host, StageNeighbours& neighbours,
                               bool keeps_spans)
    : layout_(layout),
      prices_(prices),
      host_(host),
      neighbours_(neighbours),
      keeps_spans_(keeps_spans),
      tiers_(
          offload::cache_tiers(layout.config.policy.cache, layout.batching.slots(layout.stages))),
      shape_(stage::schedule_shape(layout, placement)),
      work_(stage::stage_work(layout, placement)),
      edges_(shape_, layout.batching.num_gpu_batches,
             layout.batching.micro_batches_for(layout.stages)),
      weights_(shape_) {
  for (LivePass& pass : live_) pass.shape = shape_;
}

void SimulatedStage::go_on(double now) {
  for (bool moved = true; moved;) {
    moved = take_header();
    weights_.tell_done(
        [this](std::int64_t pass, std::int32_t task) { live(pass).done[index(task)] = 1; });
    moved = post_receives() || moved;
    moved = release() || moved;
    moved = run_executor(now) || moved;
    moved = start_lanes(now) || moved;
  }
  if (!lane_busy_[0]) look_for_stall();
}

/// One pass ahead of the present one.
bool SimulatedStage::take_header() {
  if (headers_.empty() || arrived_ > begun_) return false;
  const stage::Pass& pass = *headers_.front();
  headers_.pop_front();
  LivePass& taken = live(arrived_);
  check_done(taken);
  taken.number = arrived_++;
  taken.decodes = decodes(pass);
  stage::set_pass(taken.shape, layout_, pass,
                  [this](std::int32_t slot) { return tiers_[index(slot)]; });
  stage::build_schedule(taken.shape, taken.tasks);
  edges_.add(taken.shape, taken.tasks);
  taken.done.assign(taken.tasks.size(), 0);
  SimulatedWeights::ItemTasks item;
  for (std::size_t i = 0; i < taken.tasks.size(); ++i) {
    const auto task = static_cast<std::int32_t>(i);
    switch (taken.tasks[i].kind) {
      case TaskKind::receive:
        receives_.push_back({taken.number, task});
        break;
      case TaskKind::read_weights:
        item.read = task;
        break;
      case TaskKind::load_weights:
        weights_.name({taken.number, item.read, task});
        item.read = -1;
        break;
      default:
        break;
    }
  }
  if (!layout_.last()) neighbours_.forward_header(layout_.stage);
  return true;
}

/// The place of a pass is used again long after all it had to do.
void SimulatedStage::check_done(const LivePass& pass) {
  for (std::size_t i = 0; i < pass.tasks.size(); ++i) {
    if (pass.done[i] != 0 || pass.tasks[i].resource == Resource::none) continue;
    throw Error(
        ExitStatus::failure,
        fmt::format("task '{}' of simulated pass {} was awaited by nobody (a bug of sluice)",
                    name_of(pass.tasks[i].kind), pass.number));
  }
}

/// Receives are posted when a header comes, ahead of their use, as soon as their buffer is free.
bool SimulatedStage::post_receives() {
  bool moved = false;
  for (; !receives_.empty(); receives_.pop_front(), moved = true) {
    const auto [number, task] = receives_.front();
    const LivePass& pass = live(number);
    if (blocking(pass, pass.tasks[index(task)]) != nullptr) break;
    const bool awaits = task > 0 && pass.tasks[index(task - 1)].kind == TaskKind::await;
    if (awaits && blocking(pass, pass.tasks[index(task - 1)]) != nullptr) break;
    neighbours_.post_receive(layout_.stage, number, task);
  }
  return moved;
}

bool SimulatedStage::run_executor(double now) {
  bool moved = false;
  for (;;) {
    if (current_ == kNoPass) {
      executor_waits_ = Activity::stall_pass;
      if (begun_ == arrived_) return moved;
      current_ = begun_++;
      at_ = 0;
      close_pass(now);
      const LivePass& pass = live(current_);
      is_open_ = true;
      open_decodes_ = pass.decodes;
      open_work_ = stage::compute_work(stage::work_of(pass.tasks, pass.shape, work_));
      moved = true;
    }
    const LivePass& pass = live(current_);
    for (; index(at_) < pass.tasks.size(); ++at_, moved = true) {
      if (!issue(pass, at_)) return moved;
    }
    if (layout_.last()) queue(Queue::outbox).entries.push_back({current_, kEndOfPass});
    current_ = kNoPass;
    moved = true;
  }
}

/// False: the executor stands still before this task.
bool SimulatedStage::issue(const LivePass& pass, std::int32_t task_index) {
  const Task& task = pass.tasks[index(task_index)];
  if (task.kind == TaskKind::await) return may_pass(pass, task);
  const Queue which = stage::queue_of(task, pass.shape);
  switch (which) {
    case Queue::none:
      if (task.kind == TaskKind::release) releases_.push_back({pass.number, task_index});
      break;
    case Queue::receive:
    case Queue::weight_disk:
    case Queue::weight_copies:  // these go ahead by themselves
      break;
    default:
      queue(which).entries.push_back({pass.number, task_index});
  }
  return true;
}

bool SimulatedStage::may_pass(const LivePass& pass, const Task& task) {
  if (task.way_for == TaskKind::receive) return true;
  if (const Task* const awaited = blocking(pass, task)) {
    executor_waits_ = stall_of(awaited->kind);
    return false;
  }
  if (task.way_for != TaskKind::lease) return true;
  if (!weights_.may_lease()) {
    executor_waits_ = Activity::stall_weights;
    return false;
  }
  weights_.lease();
  return true;
}

bool SimulatedStage::release() {
  bool moved = false;
  for (; !releases_.empty(); releases_.pop_front(), moved = true) {
    LivePass& pass = live(releases_.front().pass);
    const Task& task = pass.tasks[index(releases_.front().task)];
    if (blocking(pass, task) != nullptr) break;
    pass.done[index(releases_.front().task)] = 1;
    if (shape_.groups[index(task.group)].streamed) weights_.release();
  }
  return moved;
}

/// The first of the tasks before it that is not done; null: all are.
const Task* SimulatedStage::blocking(const LivePass& pass, const Task& task) const {
  for (const stage::Edge& edge : task.after) {
    if (edge.task < 0) break;
    const std::int64_t number = pass.number - edge.passes_ago;
    const LivePass& before = live(std::max<std::int64_t>(number, 0));
    if (before.number != number) continue;  // long over
    if (before.done[index(edge.task)] == 0) return &before.tasks[index(edge.task)];
  }
  return nullptr;
}

void SimulatedStage::look_for_stall() {
  const WaitingQueue& waiting = queue(Queue::compute);
  stall_ = executor_waits_;
  if (waiting.entries.empty()) return;
  const auto [number, task] = waiting.entries.front();
  const LivePass& pass = live(number);
  const Task* const awaited = blocking(pass, pass.tasks[index(task)]);
  if (awaited != nullptr) stall_ = stall_of(awaited->kind);
}

// ------------------------------------------------------------------------------------- resources

bool SimulatedStage::start_lanes(double now) {
  bool moved = start_one_of(now, 0, {Queue::compute});
  moved = start_to_device(now) || moved;
  moved = start_one_of(now, 2, {Queue::device_to_host, Queue::hidden_to_host}) || moved;
  moved = start_one_of(now, 3, {Queue::host_compute}) || moved;
  for (const Queue which : {Queue::disk, Queue::cache_writes, Queue::hidden_disk}) {
    if (!is_ready(now, queue(which))) continue;
    start(now, which);
    moved = true;
  }
  moved = start_read(now) || moved;
  return start_outbox(now) || moved;
}

/// Whether the first entry may begin; remembers since when.
bool SimulatedStage::is_ready(double now, WaitingQueue& waiting) {
  if (waiting.running || waiting.entries.empty()) return false;
  if (waiting.ready >= 0) return true;
  const auto [number, task] = waiting.entries.front();
  const LivePass& pass = live(number);
  if (blocking(pass, pass.tasks[index(task)]) != nullptr) return false;
  waiting.ready = now;
  return true;
}

/// A lane does what came first.
bool SimulatedStage::start_one_of(double now, std::size_t lane,
                                  std::initializer_list<Queue> queues) {
  Queue first = Queue::none;
  for (const Queue which : queues) {
    if (!is_ready(now, queue(which))) continue;
    if (first == Queue::none || queue(which).ready < queue(first).ready) first = which;
  }
  if (lane_busy_[lane] || first == Queue::none) return false;
  start(now, first);
  return true;
}

bool SimulatedStage::start_to_device(double now) {
  const auto queues = {Queue::host_to_device, Queue::cache_to_device, Queue::hidden_to_device};
  const std::int32_t group = weights_.next_load();
  if (group < 0) return start_one_of(now, 1, queues);
  if (weights_ready_ < 0) weights_ready_ = now;
  if (lane_busy_[1]) return false;
  const bool others_first = std::any_of(queues.begin(), queues.end(), [&](Queue which) {
    return is_ready(now, queue(which)) && queue(which).ready < weights_ready_;
  });
  if (others_first) return start_one_of(now, 1, queues);
  weights_.begin_load();
  weights_ready_ = -1;
  start_weights(now, group, true);
  return true;
}

bool SimulatedStage::start_read(double now) {
  const std::int32_t group = weights_.next_read();
  if (group < 0) return false;
  weights_.begin_read();
  start_weights(now, group, false);
  return true;
}

void SimulatedStage::start_weights(double now, std::int32_t group, bool is_load) {
  Task task;
  task.kind = is_load ? TaskKind::load_weights : TaskKind::read_weights;
  task.resource = is_load ? Resource::host_to_device : Resource::disk;
  task.group = group;
  add_bytes(stage::work_of(task, shape_, work_));
  run(now, task.resource, prices_.cost(task, shape_, work_),
      {group, is_load ? kLoadItem : kReadItem});
}

bool SimulatedStage::start_outbox(double now) {
  WaitingQueue& outbox = queue(Queue::outbox);
  bool moved = false;
  while (!outbox.running && !outbox.entries.empty()) {
    const auto [number, task] = outbox.entries.front();
    if (task == kEndOfPass) {
      neighbours_.send_results();
      outbox.entries.pop_front();
    } else if (!is_ready(now, outbox)) {
      break;
    } else if (live(number).tasks[index(task)].kind == TaskKind::send) {
      neighbours_.post_send(layout_.stage, number, task);
      outbox.entries.pop_front();
      outbox.ready = -1;
    } else {
      start(now, Queue::outbox);
    }
    moved = true;
  }
  WaitingQueue& sends = queue(Queue::send);  // from device to device
  for (; is_ready(now, sends); sends.entries.pop_front(), sends.ready = -1, moved = true) {
    neighbours_.post_send(layout_.stage, sends.entries.front().pass, sends.entries.front().task);
  }
  return moved;
}

void SimulatedStage::start(double now, Queue which) {
  WaitingQueue& waiting = queue(which);
  const Entry entry = waiting.entries.front();
  waiting.ready = -1;
  waiting.running = true;
  LivePass& pass = live(entry.pass);
  const Task& task = pass.tasks[index(entry.task)];
  if (task.resource == Resource::compute) {
    account_.seconds(stall_) += now - idle_since_;
    idle_since_ = now;
  } else {
    add_bytes(stage::work_of(task, pass.shape, work_));
  }
  run(now, task.resource, prices_.cost(task, pass.shape, work_), entry);
}

void SimulatedStage::run(double now, Resource resource, const TaskCost& cost, const Entry& entry) {
  RunningTask running;
  running.stage = layout_.stage;
  running.pass = entry.pass;
  running.task = entry.task;
  running.resource = resource;
  const bool writes = entry.task >= 0 && resource == Resource::disk &&
                      live(entry.pass).tasks[index(entry.task)].kind != TaskKind::read_cache &&
                      live(entry.pass).tasks[index(entry.task)].kind != TaskKind::read_hidden;
  running.activity = activity_of(resource, writes);
  running.is_counted = resource != Resource::outbox;
  running.account = &account_;
  running.prices = &prices_;
  running.cost = cost;
  running.begin = now;
  if (resource >= Resource::host_to_device && resource <= Resource::host_compute) {
    lane_busy_[lane_of(resource)] = true;
  }
  if (cost.seconds > 0) return host_.start(now, running);
  ended(now, running);
}

void SimulatedStage::ended(double now, const RunningTask& task) {
  if (task.resource >= Resource::host_to_device && task.resource <= Resource::host_compute) {
    lane_busy_[lane_of(task.resource)] = false;
  }
  if (task.resource == Resource::compute) idle_since_ = now;
  std::int32_t layer = -1;
  if (task.task == kLoadItem) {
    weights_.end_load();
  } else if (task.task == kReadItem) {
    weights_.end_read();
  } else {
    LivePass& pass = live(task.pass);
    const Task& done = pass.tasks[index(task.task)];
    layer = done.layer;
    pass.done[index(task.task)] = 1;
    WaitingQueue& waiting = queue(stage::queue_of(done, pass.shape));
    waiting.running = false;
    waiting.entries.pop_front();
  }
  if (!keeps_spans_ || !task.is_counted || now <= task.begin) return;
  spans_.push_back({task.activity, task.task >= 0 ? static_cast<std::int32_t>(task.pass) : -1,
                    layer < 0 ? -1 : layout_.config.first_layer + layer, nanoseconds(task.begin),
                    nanoseconds(now)});
}

TaskCost SimulatedStage::message_cost(std::int64_t pass, std::int32_t task) const {
  const LivePass& sent = live(pass);
  return prices_.cost(sent.tasks[index(task)], sent.shape, work_);
}

void SimulatedStage::transferred(std::int64_t pass, std::int32_t task) {
  LivePass& with = live(pass);
  with.done[index(task)] = 1;
  add_bytes(stage::work_of(with.tasks[index(task)], with.shape, work_));
}

// -------------------------------------------------------------------------------------- accounts

void SimulatedStage::add_bytes(const stage::TaskWork& work) {
  const auto add = [this](Activity activity, std::uint64_t bytes) {
    account_.totals.bytes[static_cast<std::size_t>(activity)] += bytes;
  };
  add(Activity::disk_read, work.disk_read);
  add(Activity::disk_write, work.disk_written);
  add(Activity::host_to_device, work.host_to_device);
  add(Activity::device_to_host, work.device_to_host);
  add(Activity::send, work.sent);
  add(Activity::receive, work.received);
}

/// As stage/phase_meter.h: the time since the last call belongs to the pass before.
void SimulatedStage::close_pass(double now) {
  const auto close = [&](stage::PhaseReport& phase) {
    phase.wall_seconds += now - closed_at_;
    if (is_open_) ++phase.passes;
    for (std::size_t a = 0; a < kActivityCount; ++a) {
      phase.totals.seconds[a] += account_.totals.seconds[a] - closed_.seconds[a];
      phase.totals.bytes[a] += account_.totals.bytes[a] - closed_.bytes[a];
      phase.totals.exposed[a] += account_.totals.exposed[a] - closed_.exposed[a];
    }
    phase.work.flop += open_work_.flop;
    phase.work.weight_bytes += open_work_.weight_bytes;
    phase.work.kv_bytes += open_work_.kv_bytes;
    phase.work.host_flop += open_work_.host_flop;
    phase.work.host_kv_bytes += open_work_.host_kv_bytes;
  };
  close(run_);
  if (is_open_ && open_decodes_) close(decode_);
  closed_ = account_.totals;
  closed_at_ = now;
  is_open_ = false;
  open_work_ = {};
}

}  // namespace sluice::launcher
