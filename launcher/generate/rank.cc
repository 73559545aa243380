#include "launcher/generate/rank.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "comm/gather.h"
#include "kernels/engine.h"
#include "launcher/generate/alike_tokens.h"
#include "launcher/generate/draft_rank.h"
#include "launcher/generate/open_tokenizer.h"
#include "launcher/machine/host_memory.h"
#include "launcher/report/schedule_table.h"
#include "launcher/report/trace_json.h"
#include "launcher/structured/token_bytes.h"
#include "stage/layer_split.h"

namespace sluice::launcher {

namespace {

bool writes_to_disk(const RunConfig& config, const stage::StageConfig& stage) {
  const offload::Policy& policy = stage.policy;
  return policy.cache.disk > 0 || policy.activations.disk > 0 ||
         (config.weights == WeightsFrom::dummy && policy.weights.disk > 0);
}

/// World::on_exit() calls it where no destructor runs: a peer was lost, the job was stopped.
void remove_folder(void* folder) noexcept {
  static_cast<const offload::RunFolder*>(folder)->remove();
}

}  // namespace

OpenedModel open_weights(const RunConfig& config) {
  ModelFolder folder = open_model(config.model);
  if (config.weights == WeightsFrom::checkpoint) {
    OpenedModel opened = open_checkpoint(std::move(folder));
    opened.adapters = open_adapters(config.lora, opened.folder);
    return opened;
  }
  if (!config.lora.empty()) {
    throw ConfigError("--lora: made-up weights have no adapters; leave out --weights dummy");
  }
  return {std::move(folder), std::nullopt, {}};
}

std::vector<stage::StageConfig> stages_of(const RunConfig& config, std::int32_t ranks,
                                          const stage::DecoderConfig& model) {
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
  stage::check_policies(stages, model);
  return stages;
}

Rank::Rank(const RunConfig& config, const OpenedModel& model, const SequenceTokens& tokens,
           int cores, comm::World& world)
    : config_(config),
      model_(model),
      world_(world),
      trace_(config.report.trace.empty() ? 0 : most_spans(world.size())),
      layout_(layout(tokens)),
      threads_(layout_.config.threads > 0 ? layout_.config.threads : cores) {
  kernels::EngineOptions options;
  options.device = layout_.config.device;
  options.threads = threads_;
  options.ranks_on_host = world.ranks_on_host();
  options.local_rank = world.local_rank();
  options.weight_dtype = weight_dtype(model);
  options.host_to_device_gbps = layout_.config.limits.host_to_device_gbps;
  options.device_to_host_gbps = layout_.config.limits.device_to_host_gbps;
  options.trace = &trace_;
  engine_ = kernels::make_engine(options);
  layout_.compute_dtype = engine_.backend->info().compute_dtype;
  layout_.engine_bytes = engine_.backend->info().workspace_bytes;
}

const std::string& Rank::choose_transport() {
  transport_ = comm::choose_transport(world_, config_.comm.transport, engine_.backend->info());
  layout_.device_channel = transport_.nccl;
  return transport_.text;
}

void Rank::plan() {
  // A device with memory of its own has no more than that, also where the user set no budget.
  const BackendInfo& device = engine_.backend->info();
  std::uint64_t& budget =
      layout_.config.budgets.bytes[static_cast<std::size_t>(offload::Tier::device)];
  if (device.device_bytes > 0 && budget == 0) {
    const std::uint64_t nccl = transport_.nccl ? comm::kNcclDeviceBytes : 0;
    const std::uint64_t spare = spare_device_bytes(device.device_free_bytes) + nccl;
    budget = std::max<std::uint64_t>(  // 0 would be no limit
        device.device_free_bytes - std::min(device.device_free_bytes, spare), 1);
  }
  offload::DiskOptions disk_options;
  disk_options.read_gbps = layout_.config.limits.disk_read_gbps;
  disk_options.write_gbps = layout_.config.limits.disk_write_gbps;
  disk_options.trace = &trace_;
  disk_ = offload::DiskEngine::make(disk_options);
  if (writes_to_disk(config_, layout_.config)) {
    folder_ = std::make_unique<offload::RunFolder>(offload_directory(config_), world_.rank());
  }
  weights_ =
      std::make_unique<RankWeights>(config_, layout_.config.policy.compress_weight, model_, *disk_,
                                    folder_ ? folder_->path() : std::filesystem::path(), threads_);
  if (layout_.batching.grammars && layout_.last()) {
    tokens_.emplace(token_trie(open_tokenizer(model_.folder), layout_.model.vocabulary));
  }
  stage::Drafter* const drafter = make_drafter();
  stage::StageResources resources{world_,
                                  engine_,
                                  weights_->source(),
                                  disk_.get(),
                                  folder_.get(),
                                  trace_,
                                  tokens_ ? &*tokens_ : nullptr,
                                  drafter};
  for (const AdapterFolder& adapter : model_.adapters.folders) {
    adapters_.push_back(offload::make_checkpoint_source(adapter.checkpoint, adapter.names, *disk_));
    resources.adapters.push_back(adapters_.back().get());
  }
  stage_ = std::make_unique<stage::Stage>(layout_, resources);
  // Last: from here on only the destructor takes it back.
  if (folder_) world_.on_exit(&remove_folder, folder_.get());
}

/// Who guesses for the head; null: nobody.
stage::Drafter* Rank::make_drafter() {
  if (layout_.batching.draft_tokens == 0 || world_.rank() != 0) return nullptr;
  if (config_.draft.model.empty()) {
    look_up_.emplace(alike_tokens(open_tokenizer(model_.folder), layout_.model.vocabulary));
    return &*look_up_;
  }
  draft_ = std::make_unique<DraftRank>(config_, model_.folder, layout_.batching, layout_.stages,
                                       layout_.config.device, threads_);
  layout_.draft_bytes = draft_->bytes();
  return draft_.get();
}

void Rank::connect() {
  if (!transport_.nccl) return;
  world_.step("meeting over NCCL", -1, -1);
  using Milliseconds = std::chrono::milliseconds;
  const Milliseconds deadline(
      static_cast<Milliseconds::rep>(config_.comm.deadline_seconds * 1000.0));
  channel_ = comm::connect_nccl(world_, *engine_.backend, deadline);
  stage_->use(*channel_);
}

Rank::~Rank() {
  if (folder_) world_.forget_exit(folder_.get());
}

stage::StageLayout Rank::layout(const SequenceTokens& tokens) const {
  const auto topology = stage::Topology::of_ranks(world_.size());
  stage::StageLayout layout;
  layout.stage = topology.stage_of(world_.rank());
  layout.stages = topology.stages;
  layout.model = model_.folder.config;
  layout.config =
      stages_of(config_, topology.stages, layout.model)[static_cast<std::size_t>(layout.stage)];
  layout.batching = config_.batching;
  layout.batching.max_sequence_tokens = tokens.longest;
  layout.batching.usual_sequence_tokens = std::min(tokens.usual, tokens.longest);
  layout.batching.max_rule_words = tokens.rule_words;
  layout.batching.grammars = tokens.grammars;
  layout.adapters = model_.adapters.specs;
  layout.batching.adapters = static_cast<std::int32_t>(model_.adapters.folders.size());
  layout.batching.features = tokens.features ? layout.model.feature_width() : 0;
  return layout;
}

offload::PerTier<std::uint64_t> Rank::planned_bytes() const {
  offload::PerTier<std::uint64_t> bytes = {};
  for (std::size_t tier = 0; tier < bytes.size(); ++tier) {
    bytes[tier] = stage_->plan().total(static_cast<offload::Tier>(tier));
  }
  return bytes;
}

std::uint64_t Rank::load_bytes() const {
  // From the plan, which counts a table that embedding and head share once.
  std::uint64_t bytes = 0;
  for (const offload::Reservation& reservation : stage_->plan().reservations()) {
    if (reservation.purpose == "weights") bytes += reservation.bytes;
  }
  return bytes + (draft_ ? draft_->load_bytes() : 0);
}

void Rank::load(const LoadWatch& watch) {
  world_.step("packing weights", -1, -1);
  weights_->prepare(watch.packing);
  stage_->load(watch.loaded);
  if (draft_) draft_->load({{}, watch.loaded});
}

std::vector<RankDevice> Rank::devices() const {
  const BackendInfo& info = engine_.backend->info();
  RankDevice mine;
  mine.host = world_.hosts()[static_cast<std::size_t>(world_.rank())].name;
  mine.kind = info.kind;
  mine.device_id = info.device_id;
  mine.compute_dtype = name_of(info.compute_dtype);
  if (info.device_bytes > 0) {
    mine.wanted = stage_->plan().total(offload::Tier::device) +
                  (transport_.nccl ? comm::kNcclDeviceBytes : 0);
  }
  mine.free = info.device_free_bytes;
  mine.taken = info.workspace_bytes;
  return comm::gather(world_, mine);
}

void Rank::check_budgets() const { stage_->check_budgets(); }

void Rank::check_memory() const {
  // On the CPU the device's memory is the machine's own, too.
  const bool is_cpu = engine_.backend->info().kind == "cpu";
  const offload::MemoryPlan& plan = stage_->plan();
  check_hosts(world_,
              plan.total(offload::Tier::host) + (is_cpu ? plan.total(offload::Tier::device) : 0),
              is_cpu);
}

stage::RunReport Rank::run(stage::Job* job) {
  if (draft_) draft_->start();
  stage::RunReport report = stage_->run(job);
  if (draft_) draft_->stop();
  return report;
}

stage::StageReport Rank::report() const { return stage_->report(); }
std::string Rank::schedule() const { return schedule_table(stage_->layout(), stage_->placement()); }

}  // namespace sluice::launcher
