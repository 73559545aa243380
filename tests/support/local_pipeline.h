// A whole pipeline in one process: one thread per stage, in-process channels, real engines, stores
// and files. What mpirun does with processes, for tests that run hundreds of configurations.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "launcher/model/model_folder.h"
#include "stage/report.h"
#include "stage/request.h"
#include "stage/stage.h"

namespace sluice::support {

struct PipelineOptions {
  std::int32_t stages = 1;
  offload::Policy policy;                 // of every stage, unless `policies` says otherwise
  std::vector<offload::Policy> policies;  // by stage; empty: all the same
  stage::Batching batching;               // max_sequence_tokens 0: the model's positions
  offload::Budgets budgets;               // of every stage, unless `stage_budgets` says otherwise
  std::vector<offload::Budgets> stage_budgets;  // by stage; empty: all the same
  std::int32_t threads = 1;
  bool dummy_weights = false;
  bool device_channel = false;  // hidden states go from device to device
  int lost_message = 0;  // of those from stage 0, counted from 1: never comes, and is noticed
  std::filesystem::path packed_directory;  // of compressed weights; empty: gone with the run
  bool allow_io_uring = true;
  bool device_samples = false;        // sampling_engine.h
  std::vector<std::string> adapters;  // "NAME=DIR" each
  /// With batching.grammars: the vocabulary, which must outlive the run.
  const grammar::TokenTrie* tokens = nullptr;
  stage::Drafter* drafter = nullptr;  // with batching.draft_tokens; null: a LookUpDrafter
};

/// Its layers see these many keys, in turn; 0: all. None: as they are.
void set_windows(const std::vector<std::int32_t>& windows, launcher::ModelFolder& model);

struct PipelineRun {
  stage::RunReport run;
  std::vector<stage::StageReport> stages;
  /// With device_samples, of all stages: copies that would have stopped a GPU's stream
  /// (SamplingBackend).
  std::int64_t pageable_copies = 0;
};

/// Percent as FlexGen's --percent gives them: W_gpu W_cpu C_gpu C_cpu A_gpu A_cpu.
offload::Policy policy_of(double w_gpu, double w_cpu, double c_gpu, double c_cpu, double a_gpu,
                          double a_cpu);

/// Runs `job` through the model in `folder`. Throws what the first failing stage threw.
PipelineRun run_pipeline(const launcher::ModelFolder& model, const PipelineOptions& options,
                         stage::Job& job);

}  // namespace sluice::support
