// One stage of the pipeline, whole: plans its memory, loads its slice, runs passes until the job
// ends. Start reading here, then executor.h, schedule.h and decoder.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/device_channel.h"
#include "comm/world.h"
#include "grammar/token_trie.h"
#include "kernels/ops.h"
#include "offload/disk/disk_engine.h"
#include "offload/weights/weight_source.h"
#include "stage/drafter.h"
#include "stage/report.h"
#include "stage/request.h"
#include "stage/stage_memory.h"

namespace sluice::stage {

/// What a stage works with; all must outlive it. `disk` is needed where anything is kept or read
/// from disk, `folder` where the run itself writes there.
struct StageResources {
  comm::World& world;
  kernels::Engine& engine;
  offload::WeightSource& source;
  offload::DiskEngine* disk = nullptr;
  const offload::RunFolder* folder = nullptr;
  Trace& trace;
  /// The model's tokens, by id; needed on the last stage with Batching::grammars.
  const grammar::TokenTrie* tokens = nullptr;
  /// On rank 0, with Batching::draft_tokens: who guesses; null: a LookUpDrafter.
  Drafter* drafter = nullptr;
  /// Where the run's adapters come from, in the order of StageLayout::adapters. Used by load().
  std::vector<offload::WeightSource*> adapters = {};
};

class Stage {
 public:
  /// Plans only: checks the checkpoint's shapes, places the weights, reserves every byte on paper.
  /// Throws InputError, ConfigError.
  Stage(const StageLayout& layout, const StageResources& resources);
  ~Stage();

  /// As it was given, with the sizes that planning chose.
  const StageLayout& layout() const;
  const offload::MemoryPlan& plan() const;
  /// Throws CapacityError where the plan is more than the budgets. Before load().
  void check_budgets() const;
  const std::vector<offload::GroupPlacement>& placement() const;

  /// Allocates and loads. `progress(bytes)` after each tensor, from this thread. Throws IoError,
  /// InputError, CapacityError.
  void load(const std::function<void(std::uint64_t bytes)>& progress);

  /// Hidden states come and go by `channel`, from run() on; needed with
  /// StageLayout::device_channel. It must outlive the stage, and the backend it.
  void use(comm::DeviceChannel& channel);

  /// Runs passes until the head ends the job. On rank 0 `job` is not null, and the head runs on a
  /// thread of its own; elsewhere it is null. Collective. What it
  /// throws was told to every rank (World::fail) before; CommError when another rank failed first.
  RunReport run(Job* job);

  /// Of the run so far.
  StageReport report() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::stage
