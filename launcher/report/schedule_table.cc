#include "launcher/report/schedule_table.h"

#include <fmt/format.h>

#include "launcher/config/sizes.h"
#include "launcher/report/text_table.h"
#include "stage/pass_shape.h"
#include "stage/schedule_edges.h"
#include "stage/task_work.h"

namespace sluice::launcher {

namespace {

using stage::Task;
using stage::TaskKind;

std::string task_name(const Task& task) {
  if (task.kind == TaskKind::await && task.way_for != TaskKind::await) {
    return fmt::format("await (for {})", name_of(task.way_for));
  }
  if (task.kind == TaskKind::attend && task.part == 1) return "attend staged pages";
  if (task.kind == TaskKind::append_cache && task.part > 0) {
    return task.part == 1 ? "append full pages" : "append partial pages";
  }
  return task.part > 0 ? fmt::format("{}, chunk {}", name_of(task.kind), task.part + 1)
                       : name_of(task.kind);
}

std::string place_of(const Task& task, const stage::StageLayout& layout,
                     const std::vector<offload::GroupPlacement>& groups) {
  if (task.layer >= 0) return fmt::format("layer {}", layout.config.first_layer + task.layer);
  return task.group >= 0 ? groups[static_cast<std::size_t>(task.group)].name : "";
}

std::string edges_of(const Task& task) {
  std::string text;
  for (const stage::Edge& edge : task.after) {
    if (edge.task < 0) continue;
    if (!text.empty()) text += ' ';
    text += edge.passes_ago > 0 ? fmt::format("-{}:{}", edge.passes_ago, edge.task)
                                : std::to_string(edge.task);
  }
  return text;
}

std::string bytes_text(const stage::TaskWork& work) {
  const std::uint64_t bytes = work.disk_read + work.disk_written + work.host_to_device +
                              work.device_to_host + work.sent + work.received + work.weight_bytes +
                              work.kv_bytes + work.host_kv_bytes;
  return bytes > 0 ? format_size(bytes) : "";
}

std::string flop_text(const stage::TaskWork& work) {
  const double flop = work.flop + work.host_flop;
  return flop > 0 ? fmt::format("{:.3g}", flop) : "";
}

}  // namespace

std::string schedule_table(const stage::StageLayout& layout,
                           const std::vector<offload::GroupPlacement>& groups) {
  const stage::Batching& batching = layout.batching;
  const stage::StageWork prices = stage::stage_work(layout, groups);
  const std::vector<offload::Tier> tiers =
      offload::cache_tiers(layout.config.policy.cache, batching.slots(layout.stages));
  stage::ScheduleShape shape = stage::schedule_shape(layout, groups);
  const stage::Pass pass = stage::decode_pass(layout, batching.max_sequence_tokens);
  stage::set_pass(shape, layout, pass,
                  [&tiers](std::int32_t slot) { return tiers[static_cast<std::size_t>(slot)]; });
  std::vector<Task> tasks;
  stage::build_schedule(shape, tasks);
  stage::ScheduleEdges edges(shape, batching.num_gpu_batches, 1);
  for (int passes = 0; passes < 4; ++passes) edges.add(shape, tasks);  // the last has all its edges

  TextTable table("rllllrrl", {"#", "task", "of", "batch", "resource", "bytes", "FLOP", "after"});
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    const stage::TaskWork work = stage::work_of(task, shape, prices);
    const std::string batch =
        task.gpu_batch >= 0 ? std::to_string(batch_of(task, shape).index) : "";
    table.add({std::to_string(i), task_name(task), place_of(task, layout, groups), batch,
               name_of(task.resource), bytes_text(work), flop_text(work), edges_of(task)});
  }
  const stage::TaskWork sum = stage::work_of(tasks, shape, prices);
  table.add({"", "all", "", "", "", bytes_text(sum), flop_text(sum), ""});
  return fmt::format("stage {}: a decode step of {} sequences of {} tokens\n", layout.stage,
                     pass.rows.size(), batching.max_sequence_tokens) +
         table.text(2);
}

}  // namespace sluice::launcher
