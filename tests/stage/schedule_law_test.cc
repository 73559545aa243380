// The schedule is the law: on an engine that records what is put on its lanes, the order that the
// executor's events, waits and threads make is the order of the schedule's edges, neither more nor
// less, from pass to pass. And every task puts the bytes on its lane that it is priced with.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "stage/pass_shape.h"
#include "stage/schedule_edges.h"
#include "stage/task_work.h"
#include "tests/support/recording_stage.h"

namespace sluice::stage {
namespace {

using support::Operation;
using support::OperationSet;
using support::RecordingStage;

constexpr std::int64_t kBegin = -2;  // context of Executor::begin()

/// A pass that was run: its schedule with edges.
struct RunPass {
  ScheduleShape shape;
  std::vector<Task> tasks;
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

class Law {
 public:
  Law(const StageLayout& layout, RecordingStage& stage)
      : work_(stage_work(layout, stage.placement())), stage_(stage) {}

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
    const Task* task = nullptr;
    std::int64_t first = -1, last = -1;  // operations
    OperationSet before;                 // numbers of tasks, by the schedule
  };

  Queue queue(const Node& node) const { return queue_of(*node.task, node.pass->shape); }

  /// Tasks whose place in time the recorder sees.
  bool is_seen(const Node& node) const {
    const Queue its = queue(node);
    if (its == Queue::outbox) return node.task->kind == TaskKind::send;
    return its != Queue::none && its != Queue::disk && its != Queue::weight_disk &&
           its != Queue::hidden_disk;
  }

  std::string name(const Node& node) const {
    std::string text =
        "pass " + std::to_string(node.pass - passes_.data()) + " " + name_of(node.task->kind);
    if (node.task->layer >= 0) text += " layer " + std::to_string(node.task->layer);
    if (node.task->gpu_batch >= 0) {
      text += " batch " + std::to_string(batch_of(*node.task, node.pass->shape).index);
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

  static std::int64_t sort_of(TaskKind kind) {
    switch (kind) {
      case TaskKind::load_weights:
        return kWeights;
      case TaskKind::lend_rows:
      case TaskKind::store_cache:
        return kRows;
      case TaskKind::fetch_cache:
        return kPages;
      case TaskKind::fetch_hidden:
        return kHiddenIn;
      case TaskKind::store_hidden:
        return kHiddenOut;
      case TaskKind::take_results:
      case TaskKind::stage_hidden:
        return kHome;
      case TaskKind::receive:
        return kReceived;
      case TaskKind::send:
        return kSent;
      case TaskKind::upload_tables:
        return kTables;
      case TaskKind::upload_indices:
        return kIndices;
      default:
        return -1;
    }
  }

  std::uint64_t bytes_of(const Node& node) const {
    const TaskKind kind = node.task->kind;
    if (kind == TaskKind::fetch_hidden || kind == TaskKind::store_hidden) {
      // Rows at home on the device are copied as well, though not over the link.
      const auto rows = static_cast<std::uint64_t>(batch_of(*node.task, node.pass->shape).tokens);
      return rows * work_.hidden_bytes;
    }
    const TaskWork work = work_of(*node.task, node.pass->shape, work_);
    return work.host_to_device + work.device_to_host + work.sent + work.received;
  }

  void assign(const std::vector<Operation>& operations) {
    operations_ = operations;
    nodes_.clear();
    for (const RunPass& pass : passes_) {
      for (const Task& task : pass.tasks) {
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
      if (run.task->kind == TaskKind::attention) {
        return part_of(operation.context, TaskKind::attend_on_host, 0);
      }
      return append_of(operation);
    }
    if (operation.lane != Lane::compute) return -1;
    if (run.task->kind != TaskKind::attention) return operation.context;
    if (operation.kind == Operation::Kind::cache) {
      // Each part appends, then attends.
      const bool is_second = cache_operations_[operation.context]++ >= 2;
      const std::int64_t first = part_of(operation.context, TaskKind::attend, 0);
      return first >= 0 && !is_second ? first : part_of(operation.context, TaskKind::attend, 1);
    }
    if (operation.kind == Operation::Kind::product) ++products_[operation.context];
    const bool is_begin =
        operation.kind != Operation::Kind::copy && products_[operation.context] <= 3 &&
        !(operation.kind == Operation::Kind::other && products_[operation.context] == 3);
    return is_begin ? operation.context : part_of(operation.context, TaskKind::attention_output, 0);
  }

  /// Each part of an appending is one operation, that of full pages after copies of their begins.
  std::int64_t append_of(const Operation& operation) {
    const std::int32_t first = operation.kind == Operation::Kind::copy ? 1 : 0;
    for (std::int32_t part = first; part < 3; ++part) {
      const std::int64_t task = part_of(operation.context, TaskKind::append_cache, part);
      if (task < 0 || appended_.count(task) > 0) continue;
      if (operation.kind == Operation::Kind::cache) appended_.insert(task);
      return task;
    }
    return -1;
  }

  /// The next task of a kind behind the one that was run, of the same GPU batch and layer.
  std::int64_t part_of(std::int64_t task, TaskKind kind, std::int32_t part) const {
    const Node& run = nodes_[static_cast<std::size_t>(task)];
    for (auto i = static_cast<std::size_t>(task); i < nodes_.size(); ++i) {
      const Node& node = nodes_[i];
      if (node.pass != run.pass || i > static_cast<std::size_t>(task) + 12) break;
      const Task& found = *node.task;
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
    std::map<Queue, std::size_t> last;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      Node& node = nodes_[i];
      const Queue its = queue(node);
      for (const Edge& edge : node.task->after) {
        if (edge.task < 0) continue;
        const RunPass& other = *(node.pass - edge.passes_ago);
        come_after(node.before, other.first + static_cast<std::size_t>(edge.task));
      }
      if (its == Queue::none || is_executors(its)) node.before |= known;
      if (const auto found = last.find(its); its != Queue::none && found != last.end()) {
        come_after(node.before, found->second);
      }
      if (node.task->kind == TaskKind::await) known |= node.before;
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
        const bool may_be_late = queue(nodes_[later]) == Queue::cache_to_device;
        if (in_fact == by_law || (in_fact && (!exactly || may_be_late))) continue;
        if (++wrong_ > 4) return;
        problem_ += "\n  " + name(nodes_[later]) + (in_fact ? " waits" : " does not wait") +
                    " for " + name(nodes_[earlier]) + (in_fact ? ", but need not" : "");
      }
    }
  }

  StageWork work_;
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

// ------------------------------------------------------------------------------------ the stages

constexpr std::int32_t kSequences = 3;  // of a GPU batch

struct Case {
  offload::Policy policy;
  std::int32_t stage = 0;
  std::int32_t stages = 1;
  bool by_device = false;
  bool samples = false;
  std::int32_t gpu_batches = 1;
};

StageLayout layout_of(const Case& one) {
  StageLayout layout;
  DecoderConfig& model = layout.model;
  model.layers = 3 * one.stages;
  model.hidden = model.embedding.width = 16;
  model.attention.query_heads = model.attention.kv_heads = 2;
  model.attention.head_width = 8;
  model.attention.scale = 1;
  model.mlp.width = 32;
  model.vocabulary = 40;
  model.max_positions = 64;
  model.dtype = DType::f32;
  layout.config.first_layer = 3 * one.stage;
  layout.config.layers = 3;
  layout.config.policy = one.policy;
  layout.batching.gpu_batch_size = kSequences;
  layout.batching.num_gpu_batches = one.gpu_batches;
  layout.batching.micro_batches = one.stages > 1 ? 2 : 1;
  layout.batching.max_tokens_per_gpu_batch = 64;
  layout.batching.max_sequence_tokens = 48;
  layout.stage = one.stage;
  layout.stages = one.stages;
  layout.device_channel = one.by_device;
  layout.device_samples = one.samples;
  return layout;
}

/// Tokens of a prompt: of three sequences, one fills a page in its prompt and one in each of two
/// later steps.
std::int32_t prompt_tokens(std::int32_t slot) { return 14 + slot % 3; }

/// Every micro-batch in turn: a prompt, then decode steps, of which one lacks a GPU batch.
Pass make_pass(const StageLayout& layout, std::int64_t number) {
  const Batching& batching = layout.batching;
  Pass pass;
  pass.number = number;
  pass.micro_batch = static_cast<std::int32_t>(number % batching.micro_batches);
  const auto step = static_cast<std::int32_t>(number / batching.micro_batches);
  const bool lacks_one = step == 2 && batching.num_gpu_batches > 1;
  const std::int32_t per_micro_batch = batching.num_gpu_batches * kSequences;
  for (std::int32_t g = 0; g < batching.num_gpu_batches; ++g) {
    std::int32_t& tokens = pass.batch_tokens.emplace_back(0);
    if (lacks_one && g == 1) continue;
    for (std::int32_t i = 0; i < kSequences; ++i) {
      PassRow& row = pass.rows.emplace_back();
      row.slot = pass.micro_batch * per_micro_batch + g * kSequences + i;
      const std::int32_t prompt = prompt_tokens(row.slot);
      // The GPU batch that was left out is a step behind from then on.
      const std::int32_t steps =
          step - (g == 1 && step > 2 && batching.num_gpu_batches > 1 ? 1 : 0);
      row.position = step == 0 ? 0 : prompt + steps - 1;
      row.new_tokens = step == 0 ? prompt : 1;
      row.total = 48;
      row.first_token = tokens;
      row.gpu_batch = g;
      row.sample = !(g == 0 && step == 0);  // a prompt that goes on: no logits
      tokens += row.new_tokens;
      pass.tokens.resize(pass.tokens.size() + static_cast<std::size_t>(row.new_tokens), 1);
    }
  }
  return pass;
}

std::string run_case(const Case& one, bool exactly) {
  const StageLayout layout = layout_of(one);
  RecordingStage stage(layout);
  Law law(layout, stage);
  ScheduleEdges edges(stage.executor().shape(), one.gpu_batches, layout.batching.micro_batches);
  std::vector<std::byte> header(max_pass_bytes(layout.batching, layout.stages));
  std::size_t first = 0;
  for (std::int64_t number = 0; number < 4 * layout.batching.micro_batches; ++number) {
    const std::span<const std::byte> bytes = encode(make_pass(layout, number), header);
    stage.world().tell({bytes.begin(), bytes.end()});
    stage.recorder().set_context(kBegin);
    const Pass& pass = stage.inbox().next();
    Executor& executor = stage.executor();
    executor.plan(pass);
    RunPass run{executor.shape(), {executor.tasks().begin(), executor.tasks().end()}, first};
    edges.add(run.shape, run.tasks);
    executor.begin(pass);
    for (std::size_t i = 0; i < run.tasks.size(); ++i) {
      stage.recorder().set_context(static_cast<std::int64_t>(first + i));
      executor.run_task(executor.tasks()[i], pass, stage.inbox());
    }
    stage.recorder().set_context(kBegin);
    executor.end(pass);
    first += run.tasks.size();
    law.add(std::move(run));
  }
  stage.executor().drain();
  return law.check(exactly);
}

struct CacheCase {
  const char* name;
  offload::Shares shares;
  bool host_attends;
};
constexpr CacheCase kCaches[] = {
    {"device", {100, 0, 0}, false},      {"host", {0, 100, 0}, false},
    {"attended", {0, 100, 0}, true},     {"some", {50, 50, 0}, false},
    {"someattended", {50, 50, 0}, true}, {"disk", {0, 0, 100}, false},
    {"all", {34, 33, 33}, false},        {"allattended", {34, 33, 33}, true},
};
constexpr offload::Shares kWeights[] = {{100, 0, 0}, {0, 100, 0}, {40, 60, 0}, {20, 30, 50}};
constexpr offload::Shares kActivations[] = {{100, 0, 0}, {40, 60, 0}, {30, 30, 40}};

struct StageCase {
  const char* name;
  std::int32_t stage;
  std::int32_t stages;
  bool by_device;
  bool samples;
};
constexpr StageCase kStages[] = {
    {"only", 0, 1, false, false},          {"onlysampling", 0, 1, false, true},
    {"first", 0, 3, false, false},         {"middle", 1, 3, false, false},
    {"last", 2, 3, false, false},          {"firstbydevice", 0, 3, true, false},
    {"middlebydevice", 1, 3, true, false}, {"lastbydevice", 2, 3, true, true},
};

class ScheduleLawTest : public testing::TestWithParam<std::tuple<CacheCase, StageCase>> {
 protected:
  Case one_of(const offload::Shares& weights, const offload::Shares& activations,
              std::int32_t gpu_batches) const {
    const auto& [cache, stage] = GetParam();
    Case one;
    one.policy.weights = weights;
    one.policy.cache = cache.shares;
    one.policy.cpu_cache_compute = cache.host_attends;
    one.policy.activations = activations;
    one.stage = stage.stage;
    one.stages = stage.stages;
    one.by_device = stage.by_device;
    one.samples = stage.samples;
    one.gpu_batches = gpu_batches;
    return one;
  }
};

TEST_P(ScheduleLawTest, TheExecutorsOrderIsTheSchedules) {
  std::size_t turn = 0;
  for (const offload::Shares& activations : kActivations) {
    for (const std::int32_t gpu_batches : {1, 2, 3, 8}) {
      const offload::Shares& weights = kWeights[turn++ % std::size(kWeights)];
      Case one = one_of(weights, activations, gpu_batches);
      one.policy.weight_slots = turn % 3 == 0 ? 3 : 2;
      // A lane may order more than it must where it has copies of pages from disk, which come when
      // the disk is done, beside those of hidden states, and where a thread moves hidden states.
      const bool may_wait_more =
          activations.disk > 0 || (activations.device < 100 && one.policy.cache.disk > 0);
      const std::string problem = run_case(one, !may_wait_more);
      EXPECT_TRUE(problem.empty())
          << problem << "\n"
          << gpu_batches << " GPU batches, weights " << weights.device << " " << weights.host
          << ", activations " << activations.device << " " << activations.host;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, ScheduleLawTest,
                         testing::Combine(testing::ValuesIn(kCaches), testing::ValuesIn(kStages)),
                         [](const auto& one) {
                           return std::string(std::get<0>(one.param).name) + "_" +
                                  std::get<1>(one.param).name;
                         });

}  // namespace
}  // namespace sluice::stage
