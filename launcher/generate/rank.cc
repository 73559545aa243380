#include "launcher/generate/rank.h"

#include <fmt/core.h>

#include <sstream>

#include "kernels/engine.h"
#include "launcher/generate/host_memory.h"
#include "launcher/report/trace_json.h"
#include "stage/layer_split.h"

namespace sluice::launcher {

namespace {

bool writes_to_disk(const RunConfig& config, const stage::StageConfig& stage) {
  const offload::Policy& policy = stage.policy;
  return policy.cache.disk > 0 || policy.activations.disk > 0 ||
         (config.weights == WeightsFrom::dummy && policy.weights.disk > 0);
}

/// Of the matrices as they lie in the checkpoint; of dummy weights, config.json's.
DType weight_dtype(const OpenedModel& model) {
  const offload::TensorRecord* matrix =
      model.checkpoint ? model.checkpoint->find("layers.0.fc1.weight") : nullptr;
  return matrix != nullptr ? matrix->dtype : model.folder.config.dtype;
}

/// World::on_exit() calls it where no destructor runs: a peer was lost, the job was stopped.
void remove_folder(void* folder) noexcept {
  static_cast<const offload::RunFolder*>(folder)->remove();
}

}  // namespace

OpenedModel open_checkpoint(const RunConfig& config) {
  OpenedModel opened{open_model(config.model), std::nullopt};
  if (config.weights == WeightsFrom::checkpoint) {
    opened.checkpoint.emplace(offload::Checkpoint::open(opened.folder.path));
  }
  return opened;
}

std::vector<stage::StageConfig> stages_of(const RunConfig& config, std::int32_t ranks,
                                          const stage::ModelConfig& model) {
  std::vector<stage::StageConfig> stages = config.stages;
  if (stages.empty()) stages.assign(static_cast<std::size_t>(ranks), config.stage_defaults);
  if (stages.size() != static_cast<std::size_t>(ranks)) {
    throw ConfigError(fmt::format(
        "the configuration has {} stages but {} ranks were started; use mpirun -n {}, or change "
        "stages",
        stages.size(), ranks, stages.size()));
  }
  if (stages.front().layers == 0) {
    stage::split_layers(stages, model.layers, stage::decode_weights(model));
  } else {
    std::int32_t next = 0;
    for (stage::StageConfig& stage : stages) {
      stage.first_layer = next;
      next += stage.layers;
    }
  }
  stage::check_layers(stages, model.layers);
  return stages;
}

Rank::Rank(const RunConfig& config, const OpenedModel& model, std::int32_t max_sequence_tokens,
           int cores, comm::World& world)
    : world_(world), trace_(config.report.trace.empty() ? 0 : most_spans(world.size())) {
  stage::StageLayout made = layout(config, model, max_sequence_tokens);
  kernels::EngineOptions options;
  options.device = made.config.device;
  options.threads = made.config.threads > 0 ? made.config.threads : cores;
  options.ranks_on_host = world.ranks_on_host();
  options.local_rank = world.local_rank();
  options.weight_dtype = weight_dtype(model);
  options.host_to_device_gbps = made.config.limits.host_to_device_gbps;
  options.device_to_host_gbps = made.config.limits.device_to_host_gbps;
  options.trace = &trace_;
  engine_ = kernels::make_engine(options);
  const BackendInfo& device = engine_.backend->info();
  made.compute_dtype = device.compute_dtype;
  made.engine_bytes = device.workspace_bytes;
  // A device with memory of its own has no more than that, also where the user set no budget.
  std::uint64_t& budget =
      made.config.budgets.bytes[static_cast<std::size_t>(offload::Tier::device)];
  if (device.device_bytes > 0 && budget == 0) budget = device.device_free_bytes;

  offload::DiskOptions disk_options;
  disk_options.read_gbps = made.config.limits.disk_read_gbps;
  disk_options.write_gbps = made.config.limits.disk_write_gbps;
  disk_options.trace = &trace_;
  disk_ = offload::DiskEngine::make(disk_options);
  if (writes_to_disk(config, made.config)) {
    folder_ = std::make_unique<offload::RunFolder>(offload_directory(config), world.rank());
  }
  weights_ = std::make_unique<RankWeights>(config, made.config.policy.compress_weight, model.folder,
                                           model.checkpoint ? &*model.checkpoint : nullptr, *disk_,
                                           folder_ ? folder_->path() : std::filesystem::path(),
                                           options.threads);
  stage_ = std::make_unique<stage::Stage>(
      made, stage::StageResources{world, engine_, weights_->source(), disk_.get(), folder_.get(),
                                  trace_});
  // Last: from here on only the destructor takes it back.
  if (folder_) world_.on_exit(&remove_folder, folder_.get());
}

Rank::~Rank() {
  if (folder_) world_.forget_exit(folder_.get());
}

stage::StageLayout Rank::layout(const RunConfig& config, const OpenedModel& model,
                                std::int32_t max_sequence_tokens) const {
  stage::StageLayout layout;
  layout.model = model.folder.config;
  layout.config =
      stages_of(config, world_.size(), layout.model)[static_cast<std::size_t>(world_.rank())];
  layout.batching = config.batching;
  layout.batching.max_sequence_tokens = max_sequence_tokens;
  layout.stage = world_.rank();
  layout.stages = world_.size();
  layout.separate_head = model.folder.separate_head;
  return layout;
}

std::uint64_t Rank::load_bytes() const {
  // From the plan, which counts a table that embedding and head share once.
  std::uint64_t bytes = 0;
  for (const offload::Reservation& reservation : stage_->plan().reservations()) {
    if (reservation.purpose == "weights") bytes += reservation.bytes;
  }
  return bytes;
}

void Rank::load(const LoadWatch& watch) {
  check_memory();
  world_.step("packing weights", -1, -1);
  weights_->prepare(watch.packing);
  stage_->load(watch.loaded);
}

std::vector<RankDevice> Rank::devices() const {
  const BackendInfo& info = engine_.backend->info();
  RankDevice mine;
  mine.host = world_.hosts()[static_cast<std::size_t>(world_.rank())].name;
  mine.kind = info.kind;
  mine.device_id = info.device_id;
  mine.compute_dtype = name_of(info.compute_dtype);
  mine.wanted = info.device_bytes > 0 ? stage_->plan().total(offload::Tier::device) : 0;
  mine.free = info.device_free_bytes;
  std::vector<RankDevice> all;
  for (const std::string& text : world_.gather(text_of(mine))) {
    all.push_back(rank_device_from(text));
  }
  return all;
}

void Rank::check_memory() {
  // On the CPU the device's memory is the machine's own, too.
  const bool is_cpu = engine_.backend->info().kind == "cpu";
  const offload::MemoryPlan& plan = stage_->plan();
  const std::uint64_t wanted =
      plan.total(offload::Tier::host) + (is_cpu ? plan.total(offload::Tier::device) : 0);
  // All have looked before the first of them allocates.
  const std::vector<std::string> texts =
      world_.gather(fmt::format("{} {}", wanted, stage::available_memory()));
  std::vector<RankMemory> ranks;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    std::istringstream text(texts[rank]);
    RankMemory& memory = ranks.emplace_back(RankMemory{world_.hosts()[rank].name});
    text >> memory.wanted >> memory.available;
  }
  check_hosts(ranks);
}

stage::RunReport Rank::run(stage::Job* job) { return stage_->run(job); }
stage::StageReport Rank::report() const { return stage_->report(); }

}  // namespace sluice::launcher
