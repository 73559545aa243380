// The order that a stage's lanes were given, compared with that of its schedules' edges. Tasks of
// the disk, and sampling by the host, are not seen: what comes through them is taken as the edges
// say.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "stage/schedule_edges.h"
#include "stage/task_work.h"
#include "tests/support/recording_stage.h"

namespace sluice::support {

constexpr std::int64_t kBegin = -2;  // context of Executor::begin()

/// A pass that was run: its schedule with edges.
struct RunPass {
  stage::ScheduleShape shape;
  std::vector<stage::Task> tasks;
  std::size_t first = 0;  // number of its first task, counted over all passes
};

/// Operations of the same sort and tasks that make them, both in order: a task's are as many as
/// make up its bytes.
struct Sequence {
  std::vector<std::pair<std::size_t, std::uint64_t>> tasks;  // number, bytes
  std::size_t next = 0;
  std::uint64_t seen = 0;

  /// The task of the next operation; -1 where the bytes do not add up.
  std::int64_t take(std::uint64_t bytes) {
    if (next >= tasks.size()) return -1;
    seen += bytes;
    if (seen > tasks[next].second) return -1;
    const std::size_t task = tasks[next].first;
    if (seen == tasks[next].second) {
      ++next;
      seen = 0;
    }
    return static_cast<std::int64_t>(task);
  }
};

/// Compares what a stage's lanes recorded with the edges of its schedules.
class ScheduleLaw {
 public:
  ScheduleLaw(const stage::StageLayout& layout, RecordingStage& stage)
      : work_(stage::stage_work(layout, stage.placement())), stage_(stage) {}

  void add(RunPass pass) { passes_.push_back(std::move(pass)); }

  /// What is wrong, in words; empty: nothing.
  std::string check(bool exactly) {
    assign(stage_.recorder().take());
    if (problem_.empty()) find_closure();
    if (problem_.empty()) compare(exactly);
    return problem_;
  }

 private:
  struct Node {
    const RunPass* pass = nullptr;
    const stage::Task* task = nullptr;
    std::int64_t first = -1, last = -1;  // operations
    OperationSet before;                 // numbers of tasks, by the schedule
  };

  stage::Queue queue(const Node& node) const {
    return stage::queue_of(*node.task, node.pass->shape);
  }

  /// Tasks whose place in time the recorder sees.
  bool is_seen(const Node& node) const {
    const stage::Queue its = queue(node);
    if (its == stage::Queue::outbox) return node.task->kind == stage::TaskKind::send;
    return its != stage::Queue::none && its != stage::Queue::disk &&
           its != stage::Queue::cache_writes && its != stage::Queue::weight_disk &&
           its != stage::Queue::hidden_disk;
  }

  std::string name(const Node& node) const {
    std::string text = "pass " + std::to_string(node.pass - passes_.data()) + " " +
                       stage::name_of(node.task->kind);
    if (node.task->layer >= 0) text += " layer " + std::to_string(node.task->layer);
    if (node.task->gpu_batch >= 0) {
      text += " batch " + std::to_string(stage::batch_of(*node.task, node.pass->shape).index);
    }
    if (node.task->part > 0) text += " part " + std::to_string(node.task->part);
    return text;
  }

  // ------------------------------------------------------------------------ operations to tasks

  enum Sort {
    kWeights,
    kRows,
    kPages,
    kHiddenIn,
    kHiddenOut,
    kHome,
    kReceived,
    kSent,
    kTables,
    kIndices,
    kSorts
  };

  static std::int64_t sort_of(stage::TaskKind kind) {
    switch (kind) {
      case stage::TaskKind::load_weights:
        return kWeights;
      case stage::TaskKind::lend_rows:
      case stage::TaskKind::store_cache:
        return kRows;
      case stage::TaskKind::fetch_cache:
        return kPages;
      case stage::TaskKind::fetch_hidden:
        return kHiddenIn;
      case stage::TaskKind::store_hidden:
        return kHiddenOut;
      case stage::TaskKind::take_results:
      case stage::TaskKind::stage_hidden:
        return kHome;
      case stage::TaskKind::receive:
        return kReceived;
      case stage::TaskKind::send:
        return kSent;
      case stage::TaskKind::upload_tables:
        return kTables;
      case stage::TaskKind::upload_indices:
        return kIndices;
      default:
        return -1;
    }
  }

  std::uint64_t bytes_of(const Node& node) const {
    const stage::TaskKind kind = node.task->kind;
    if (kind == stage::TaskKind::fetch_hidden || kind == stage::TaskKind::store_hidden) {
      // Rows at home on the device are copied as well, though not over the link.
      const auto rows =
          static_cast<std::uint64_t>(stage::batch_of(*node.task, node.pass->shape).tokens);
      return rows * work_.hidden_bytes;
    }
    const stage::TaskWork work = stage::work_of(*node.task, node.pass->shape, work_);
    return work.host_to_device + work.device_to_host + work.sent + work.received;
  }

  void assign(const std::vector<Operation>& operations) {
    operations_ = operations;
    nodes_.clear();
    for (const RunPass& pass : passes_) {
      for (const stage::Task& task : pass.tasks) {
        Node& node = nodes_.emplace_back();
        node.pass = &pass;
        node.task = &task;
        if (const std::int64_t sort = sort_of(task.kind); sort >= 0) {
          sequences_[sort].tasks.emplace_back(nodes_.size() - 1, bytes_of(node));
        }
      }
    }
    for (std::size_t i = 0; i < operations_.size() && problem_.empty(); ++i) place(i);
    for (const Node& node : nodes_) {
      if (problem_.empty() && is_seen(node) && node.first < 0) {
        problem_ = name(node) + " put nothing on a lane";
      }
    }
  }

  void place(std::size_t index) {
    const Operation& operation = operations_[index];
    if (operation.kind == Operation::Kind::mark) return;
    const bool is_loading = operation.thread == 0 && operation.context == -1 &&
                            operation.kind != Operation::Kind::message;
    if (is_loading) return;
    const std::int64_t sort = sort_of(operation);
    const bool ran_ahead =
        sort == kWeights && sequences_[sort].next >= sequences_[sort].tasks.size();
    if (ran_ahead) return;
    const std::int64_t task =
        sort >= 0 ? sequences_[sort].take(operation.bytes) : task_of(operation);
    if (task < 0) {
      problem_ = "operation " + std::to_string(index) + " on lane " + name_of(operation.lane) +
                 " of " + std::to_string(operation.bytes) + " bytes, sort " + std::to_string(sort) +
                 ", belongs to no task";
      if (operation.context >= 0) {
        problem_ += ", put by " + name(nodes_[static_cast<std::size_t>(operation.context)]);
      }
      return;
    }
    Node& node = nodes_[static_cast<std::size_t>(task)];
    if (node.first < 0) node.first = static_cast<std::int64_t>(index);
    node.last = static_cast<std::int64_t>(index);
  }

  std::int64_t sort_of(const Operation& operation) const {
    const auto in = [&](RecordingStage::Part part) { return stage_.is_in(part, operation.target); };
    if (operation.kind == Operation::Kind::message) {
      return operation.lane == Lane::send ? kSent : kReceived;
    }
    if (operation.kind != Operation::Kind::copy) return -1;
    switch (operation.lane) {
      case Lane::host_to_device:
        if (in(RecordingStage::weights)) return kWeights;
        return in(RecordingStage::cache) ? kPages : kHiddenIn;
      case Lane::device_to_host:
        if (in(RecordingStage::cache)) return kRows;
        return in(RecordingStage::activations) ? kHiddenOut : kHome;
      case Lane::compute:
        if (operation.context != kBegin) return -1;
        return in(RecordingStage::cache) ? kTables : kIndices;
      default:
        return -1;
    }
  }

  /// Of what has no bytes: the task that was run then, or a part of it.
  std::int64_t task_of(const Operation& operation) {
    if (operation.context < 0) return -1;
    const Node& run = nodes_[static_cast<std::size_t>(operation.context)];
    if (operation.lane == Lane::host_compute) {
      if (run.task->kind == stage::TaskKind::attention) {
        return part_of(operation.context, stage::TaskKind::attend_on_host, 0);
      }
      return append_of(operation);
    }
    if (operation.lane != Lane::compute) return -1;
    if (run.task->kind != stage::TaskKind::attention) return operation.context;
    if (operation.kind == Operation::Kind::cache) {
      // Each part appends, then attends.
      const bool is_second = cache_operations_[operation.context]++ >= 2;
      const std::int64_t first = part_of(operation.context, stage::TaskKind::attend, 0);
      return first >= 0 && !is_second ? first
                                      : part_of(operation.context, stage::TaskKind::attend, 1);
    }
    if (operation.kind == Operation::Kind::product) ++products_[operation.context];
    const bool is_begin =
        operation.kind != Operation::Kind::copy && products_[operation.context] <= 3 &&
        !(operation.kind == Operation::Kind::other && products_[operation.context] == 3);
    return is_begin ? operation.context
                    : part_of(operation.context, stage::TaskKind::attention_output, 0);
  }

  /// Each part of an appending is one operation, that of full pages after copies of their begins.
  std::int64_t append_of(const Operation& operation) {
    const std::int32_t first = operation.kind == Operation::Kind::copy ? 1 : 0;
    for (std::int32_t part = first; part < 3; ++part) {
      const std::int64_t task = part_of(operation.context, stage::TaskKind::append_cache, part);
      if (task < 0 || appended_.count(task) > 0) continue;
      if (operation.kind == Operation::Kind::cache) appended_.insert(task);
      return task;
    }
    return -1;
  }

  /// The next task of a kind behind the one that was run, of the same GPU batch and layer.
  std::int64_t part_of(std::int64_t task, stage::TaskKind kind, std::int32_t part) const {
    const Node& run = nodes_[static_cast<std::size_t>(task)];
    for (auto i = static_cast<std::size_t>(task); i < nodes_.size(); ++i) {
      const Node& node = nodes_[i];
      if (node.pass != run.pass || i > static_cast<std::size_t>(task) + 12) break;
      const stage::Task& found = *node.task;
      if (found.kind == kind && found.part == part && found.layer == run.task->layer &&
          found.gpu_batch == run.task->gpu_batch) {
        return static_cast<std::int64_t>(i);
      }
    }
    return -1;
  }

  // --------------------------------------------------------------------------------- the closure

  void come_after(OperationSet& set, std::size_t task) {
    set |= nodes_[task].before;
    set.insert(task);
  }

  void find_closure() {
    OperationSet known;  // to the executor's thread
    std::map<stage::Queue, std::size_t> last;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      Node& node = nodes_[i];
      const stage::Queue its = queue(node);
      for (const stage::Edge& edge : node.task->after) {
        if (edge.task < 0) continue;
        const RunPass& other = *(node.pass - edge.passes_ago);
        come_after(node.before, other.first + static_cast<std::size_t>(edge.task));
      }
      if (its == stage::Queue::none || stage::is_executors(its)) node.before |= known;
      if (const auto found = last.find(its); its != stage::Queue::none && found != last.end()) {
        come_after(node.before, found->second);
      }
      if (node.task->kind == stage::TaskKind::await) known |= node.before;
      last[its] = i;
    }
  }

  void compare(bool exactly) {
    for (std::size_t later = 0; later < nodes_.size(); ++later) {
      if (!is_seen(nodes_[later])) continue;
      const OperationSet& done = operations_[static_cast<std::size_t>(nodes_[later].first)].before;
      for (std::size_t earlier = 0; earlier < nodes_.size(); ++earlier) {
        if (earlier == later || !is_seen(nodes_[earlier])) continue;
        const bool in_fact = done.contains(static_cast<std::size_t>(nodes_[earlier].last));
        const bool by_law = nodes_[later].before.contains(earlier);
        // Copies of what the disk has read are issued when it has: as late as they are wanted.
        const bool may_be_late = queue(nodes_[later]) == stage::Queue::cache_to_device;
        if (in_fact == by_law || (in_fact && (!exactly || may_be_late))) continue;
        if (++wrong_ > 4) return;
        problem_ += "\n  " + name(nodes_[later]) + (in_fact ? " waits" : " does not wait") +
                    " for " + name(nodes_[earlier]) + (in_fact ? ", but need not" : "");
      }
    }
  }

  stage::StageWork work_;
  RecordingStage& stage_;
  std::vector<RunPass> passes_;
  std::vector<Operation> operations_;
  std::vector<Node> nodes_;
  Sequence sequences_[kSorts];
  std::map<std::int64_t, int> products_, cache_operations_;  // by attention task
  std::set<std::int64_t> appended_;                          // tasks
  std::string problem_;
  int wrong_ = 0;
};

}  // namespace sluice::support
