#include "tests/support/local_pipeline.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "kernels/engine.h"
#include "launcher/generate/rank_weights.h"
#include "stage/layer_split.h"
#include "tests/support/message_lanes.h"
#include "tests/support/rendezvous_channel.h"
#include "tests/support/sampling_engine.h"
#include "tests/support/scratch_folder.h"

namespace sluice::support {

offload::Policy policy_of(double w_gpu, double w_cpu, double c_gpu, double c_cpu, double a_gpu,
                          double a_cpu) {
  offload::Policy policy;
  policy.weights = {w_gpu, w_cpu, 100 - w_gpu - w_cpu};
  policy.cache = {c_gpu, c_cpu, 100 - c_gpu - c_cpu};
  policy.activations = {a_gpu, a_cpu, 100 - a_gpu - a_cpu};
  return policy;
}

namespace {

/// One rank's thread: everything a process would own.
class Rank {
 public:
  Rank(const launcher::ModelFolder& model, const PipelineOptions& options, comm::World& world,
       const std::filesystem::path& folder, std::vector<Rendezvous>& ways)
      : trace_(0), world_(world) {
    kernels::EngineOptions engine_options;
    engine_options.device = "cpu";
    engine_options.threads = options.threads;
    engine_options.trace = &trace_;
    engine_ = options.device_samples ? make_sampling_engine(options.threads, &trace_)
                                     : kernels::make_cpu_engine(engine_options);
    if (options.device_channel) {
      MessageLanes::add_to(engine_, &trace_);
      channel_.emplace(*engine_.backend, ways, world.rank());
    }
    offload::DiskOptions disk_options;
    disk_options.allow_io_uring = options.allow_io_uring;
    disk_options.trace = &trace_;
    disk_ = offload::DiskEngine::make(disk_options);
    folder_.emplace(folder, world.rank());
    model_ = options.dummy_weights ? launcher::OpenedModel{model, std::nullopt, {}}
                                   : launcher::open_checkpoint(model);
    model_.adapters = launcher::open_adapters(options.adapters, model_.folder);
    stage::StageLayout made = layout(model_.folder, options);
    made.adapters = model_.adapters.specs;
    made.batching.adapters = static_cast<std::int32_t>(options.adapters.size());
    launcher::RunConfig config;
    config.packed_directory = options.packed_directory.empty() ? (folder / "packed").string()
                                                               : options.packed_directory.string();
    weights_.emplace(config, made.config.policy.compress_weight, model_, *disk_, folder_->path(),
                     1);
    stage::StageResources resources{world,     engine_, weights_->source(), disk_.get(),
                                    &*folder_, trace_,  options.tokens,     options.drafter};
    for (const launcher::AdapterFolder& adapter : model_.adapters.folders) {
      adapters_.push_back(
          offload::make_checkpoint_source(adapter.checkpoint, adapter.names, *disk_));
      resources.adapters.push_back(adapters_.back().get());
    }
    stage_.emplace(made, resources);
    if (channel_) stage_->use(*channel_);
  }

  stage::RunReport run(stage::Job* job) {
    weights_->prepare({});
    stage_->load({});
    return stage_->run(job);
  }
  stage::StageReport report() const { return stage_->report(); }
  std::int64_t pageable_copies() const {
    const auto* backend = dynamic_cast<const SamplingBackend*>(engine_.backend.get());
    return backend != nullptr ? backend->pageable_copies() : 0;
  }

 private:
  stage::StageLayout layout(const launcher::ModelFolder& model,
                            const PipelineOptions& options) const {
    std::vector<stage::StageConfig> stages(static_cast<std::size_t>(options.stages));
    stage::split_layers(stages, model.config.layers, stage::decode_weights(model.config));
    const auto rank = static_cast<std::size_t>(world_.rank());
    stage::StageLayout layout;
    layout.model = model.config;
    layout.config = stages[rank];
    layout.config.policy = options.policies.empty() ? options.policy : options.policies[rank];
    layout.config.budgets =
        options.stage_budgets.empty() ? options.budgets : options.stage_budgets[rank];
    layout.batching = options.batching;
    if (layout.batching.max_sequence_tokens == 0) {
      layout.batching.max_sequence_tokens = model.config.max_positions;
    }
    layout.stage = world_.rank();
    layout.stages = options.stages;
    layout.device_channel = options.device_channel;
    return layout;
  }

  Trace trace_;
  comm::World& world_;
  kernels::Engine engine_;
  std::optional<RendezvousChannel> channel_;
  std::unique_ptr<offload::DiskEngine> disk_;
  std::optional<offload::RunFolder> folder_;
  launcher::OpenedModel model_;
  std::optional<launcher::RankWeights> weights_;
  std::vector<std::unique_ptr<offload::WeightSource>> adapters_;
  std::optional<stage::Stage> stage_;
};

/// The first error of any rank; an echo of another rank's failure gives way to its cause.
class FirstError {
 public:
  void add(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    bool is_echo = false;
    try {
      std::rethrow_exception(error);
    } catch (const CommError&) {
      is_echo = true;
    } catch (...) {
    }
    if (!error_ || (has_echo_ && !is_echo)) {
      error_ = error;
      has_echo_ = is_echo;
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  bool has_echo_ = false;
};

}  // namespace

PipelineRun run_pipeline(const launcher::ModelFolder& model, const PipelineOptions& options,
                         stage::Job& job) {
  const support::ScratchFolder scratch;
  auto worlds = comm::make_local_worlds(options.stages);
  std::vector<Rendezvous> ways(worlds.size());
  ways.front().lose(options.lost_message);
  PipelineRun result;
  result.stages.resize(static_cast<std::size_t>(options.stages));
  FirstError first_error;
  std::atomic<std::int64_t> pageable_copies{0};
  const auto run_rank = [&](std::size_t rank) {
    comm::World& world = *worlds[rank];
    try {
      std::optional<Rank> self;
      std::optional<ConfigError> problem;
      try {
        self.emplace(model, options, world, scratch.path(), ways);
      } catch (const Error& error) {
        first_error.add(std::current_exception());
        problem.emplace(error.what());
      }
      comm::agree(world, problem ? &*problem : nullptr);
      const stage::RunReport report = self->run(rank == 0 ? &job : nullptr);
      if (rank == 0) result.run = report;
      result.stages[rank] = self->report();
      pageable_copies += self->pageable_copies();
    } catch (...) {
      first_error.add(std::current_exception());
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t rank = 1; rank < worlds.size(); ++rank) threads.emplace_back(run_rank, rank);
  run_rank(0);
  for (std::thread& thread : threads) thread.join();
  first_error.rethrow();
  result.pageable_copies = pageable_copies;
  return result;
}

void set_windows(const std::vector<std::int32_t>& windows, launcher::ModelFolder& model) {
  for (std::int32_t layer = 0; layer < model.config.layers && !windows.empty(); ++layer) {
    model.config.attention.windows.push_back(
        windows[static_cast<std::size_t>(layer) % windows.size()]);
  }
}

}  // namespace sluice::support
