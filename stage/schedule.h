// The schedule as data: what a stage does in one pass, in the order it is issued, and what each
// task must come after. A pure function of shapes: the executor runs it, tests check its laws with
// no device, a simulator can price it.
//
// It is FlexGen's block schedule, written once: for each layer, its weights are held while every
// GPU batch of the micro-batch goes through it, and the next step's cache is fetched beside the
// present step's computing. (FlexGen paper, algorithm 1; flex_opt.py,
// generation_loop_overlap_multi_batch.)
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::stage {

enum class TaskKind : std::uint8_t {
  acquire,       // the layer's weights are on the device          (wait for disk, host-to-device)
  receive,       // the GPU batch's hidden states are on the device (receive, host-to-device)
  embed,         // ... are made from token ids                     (compute)
  fetch_hidden,  // ... are on their way back from host or disk    (disk, host-to-device)
  fetch_cache,   // its keys and values are on their way            (disk, host-to-device)
  compute,       // the layer is applied to the GPU batch           (compute, host compute)
  store_cache,   // new keys and values go home                     (device-to-host, disk)
  logits,        // head applied, results leave                     (compute, device-to-host, send)
  send,          // hidden states leave for the next stage          (device-to-host, send)
  release,       // the layer's weights may go                      (none)
};

enum class Resource : std::uint8_t {
  none,
  disk,
  host_to_device,
  device_to_host,
  compute,
  send,
  receive
};

constexpr std::int32_t kNoTask = -1;
constexpr int kMaxDependencies = 4;

struct Task {
  TaskKind kind = TaskKind::compute;
  Resource resource = Resource::none;  // the one it keeps busy longest
  std::int32_t layer = -1;      // index in the stage's weight stream: embedding, layers, head
  std::int32_t gpu_batch = -1;  // -1: of all
  std::int32_t after[kMaxDependencies] = {kNoTask, kNoTask, kNoTask, kNoTask};  // indices of tasks
};

struct ScheduleShape {
  bool first = true;           // owns the embedding (else: receives)
  bool last = true;            // owns the head (else: sends)
  std::int32_t layers = 0;     // decoder layers
  bool streams_cache = false;  // some sequences' cache is fetched for each step
  bool moves_hidden = false;   // hidden states go home between layers, to host or disk
  /// GPU batches of the micro-batch that have rows in this pass.
  std::vector<std::int32_t> gpu_batches;
};

/// Layers of the weight stream: embedding first (if first), decoder layers, head last (if last).
constexpr std::int32_t stream_layers(const ScheduleShape& shape) {
  return shape.layers + (shape.first ? 1 : 0) + (shape.last ? 1 : 0);
}

/// Overwrites `tasks`, keeping its capacity.
void build_schedule(const ScheduleShape& shape, std::vector<Task>& tasks);

}  // namespace sluice::stage
