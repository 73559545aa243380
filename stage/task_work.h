// What a task takes of each resource at least: bytes and arithmetic, from shapes and placement
// alone. Norms, biases and activation functions are left out. Of experts, as many are read as rows
// choose where each expert is as likely as any other.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "offload/weights/placement.h"
#include "stage/report.h"
#include "stage/schedule.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

/// Bytes unless it says otherwise.
struct TaskWork {
  std::uint64_t disk_read = 0;
  std::uint64_t disk_written = 0;
  std::uint64_t host_to_device = 0;  // over the link, on whatever lane
  std::uint64_t device_to_host = 0;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  double flop = 0;                 // by the device; a multiplication and its addition: 2
  std::uint64_t weight_bytes = 0;  // read by the device
  std::uint64_t kv_bytes = 0;      // read by the device's attention
  double host_flop = 0;            // by the host's attention
  std::uint64_t host_kv_bytes = 0;

  TaskWork& operator+=(const TaskWork& other);
};

/// Numbers of a stage that work_of() needs. Plain data.
struct StageWork {
  /// Of a weight group, or of a part of it.
  struct Products {
    double flop = 0;          // per row
    std::uint64_t bytes = 0;  // of the weights, whatever the rows
    /// Of a layer with experts: those that rows choose are read, too. `flop` has those of a row.
    std::int32_t experts = 0;
    std::int32_t chosen = 0;
    std::uint64_t expert_bytes = 0;  // of each
  };
  struct Group {
    std::uint64_t streamed = 0;  // bytes through the ring
    std::uint64_t disk = 0;      // ... of which come from disk
  };
  std::vector<Group> groups;                // in the order of leases
  std::vector<Products> attention, output;  // by layer: norm, query, key and value; the output
  std::vector<Products> mlp;                // by layer
  std::vector<char> windowed;               // by layer: whether it has a window
  Products head;                            // for each chunk of logits
  double embed_flop = 0;                    // per token
  std::uint64_t embed_bytes = 0;            // per token
  double pair_flop = 0;                     // of attention, per new token and token it sees
  std::uint64_t token_bytes = 0;            // of a layer's keys and values of a token, cached
  std::uint64_t page_bytes = 0;             // of a layer, in memory
  std::uint64_t file_page_bytes = 0;        // ... and in the file
  std::uint64_t hidden_bytes = 0;           // of a row of hidden states
  std::uint64_t query_bytes = 0;            // ... of queries, and of what attention gives
  std::uint64_t vector_bytes = 0;           // ... of new keys and values together
  std::uint64_t result_bytes = 0;           // of a row of logits, or of what is sampled from it
  std::uint64_t feature_bytes = 0;          // of a row that is wanted without logits
  std::uint64_t sample_bytes = 0;           // of what the device is asked of such a row
  std::uint64_t table_bytes = 0;            // of a GPU batch's page table without its pages ...
  std::uint64_t table_row_bytes = 0;        // ... and of a sequence's
  std::uint64_t tables = 1;                 // of these: by reach (offload::KvReach)
};
/// `groups` as place_weights() gave them.
StageWork stage_work(const StageLayout& layout, const std::vector<offload::GroupPlacement>& groups);

/// Of one task of a pass of this shape.
TaskWork work_of(const Task& task, const ScheduleShape& shape, const StageWork& stage);
/// Of all of them.
TaskWork work_of(std::span<const Task> tasks, const ScheduleShape& shape, const StageWork& stage);

/// The part of it that is computing, for reports.
ComputeWork compute_work(const TaskWork& work);

}  // namespace sluice::stage
