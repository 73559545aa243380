#include "launcher/planner/stage_papers.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "comm/device_channel.h"
#include "kernels/device/error.h"
#include "launcher/machine/device_share.h"
#include "launcher/planner/stage_places.h"

namespace sluice::launcher {

namespace {

using offload::Tier;

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

/// A CUDA context, its kernels and graphs.
constexpr std::uint64_t kCudaContextBytes = 512 * kMiB;

constexpr std::size_t index_of(Tier tier) { return static_cast<std::size_t>(tier); }

/// For the system and for what is in no plan: code, stacks, the page cache's least.
std::uint64_t spare_of_host(std::uint64_t memory) { return std::min(memory / 20, 4096 * kMiB); }

bool is_gpu(const Machine& machine) { return machine.device.kind != "cpu"; }

}  // namespace

StagePapers::StagePapers(const PlanRequest& request)
    : request_(request), kinds_(kinds_of(*request.machine)) {
  const Machine& machine = *request.machine;
  const std::int64_t devices = std::int64_t{machine.hosts} * machine.devices;
  if (is_gpu(machine) && stages() > devices) {
    throw ConfigError(fmt::format(
        "--stages: {} stages need as many GPUs, but machine '{}' has {} ({} on each of {} hosts); "
        "ask for fewer stages",
        stages(), machine.name, devices, machine.devices, machine.hosts));
  }
  on_host_ = std::min(stages(), stages_on_host(machine, stages()));
  weight_dtype_ = weight_dtype(*request.model);
  // A GPU computes in the type of the checkpoint's matrices.
  compute_dtype_ = is_gpu(machine) ? weight_dtype_ : machine.device.compute_dtype;
  for (const auto compression : {offload::Compression::none, offload::Compression::eight_bit,
                                 offload::Compression::four_bit}) {
    sources_.push_back(
        std::make_unique<ShapeSource>(*request.model, request.made_up_weights, compression));
  }
}

stage::StageLayout StagePapers::layout(std::int32_t stage, const stage::StageConfig& config,
                                       const stage::Batching& batching) const {
  const bool gpu = is_gpu(*request_.machine);
  stage::StageLayout layout;
  layout.model = request_.decoder();
  layout.config = config;
  layout.batching = batching;
  layout.batching.max_sequence_tokens = request_.job.longest_sequence;
  layout.batching.usual_sequence_tokens =
      std::min(request_.job.usual_sequence, request_.job.longest_sequence);
  layout.batching.max_rule_words = request_.job.most_rule_words;
  layout.batching.grammars = request_.job.grammars;
  layout.batching.features = request_.job.features ? layout.model.feature_width() : 0;
  layout.adapters = request_.model->adapters.specs;
  layout.stage = stage;
  layout.stages = stages();
  if (stage == 0 && request_.draft) {
    layout.draft_bytes = request_.draft->bytes(layout.batching, layout.stages);
  }
  layout.compute_dtype = compute_dtype_;
  layout.device_channel = gpu && stages() > 1;
  layout.engine_bytes = gpu ? kCudaWorkspaceBytes : 0;
  layout.device_samples = gpu;
  return layout;
}

const Placement& StagePapers::placement(const stage::StageLayout& layout) {
  const offload::Policy& policy = layout.config.policy;
  // Layers are alike in size unless only some have experts.
  const std::int32_t first = layout.model.mixture.layers.empty() ? 0 : layout.config.first_layer;
  const std::string key =
      fmt::format("{} {} {} {} {} {} {} {} {}", layout.first(), layout.last(), first,
                  layout.config.layers, policy.weights.device, policy.weights.host,
                  policy.weights.disk, static_cast<int>(policy.compress_weight), policy.mlp_once);
  const auto [entry, is_new] = placements_.try_emplace(key);
  if (is_new) {
    entry->second =
        offload::place_weights(stage::layer_specs(layout), policy.weights,
                               *sources_[static_cast<std::size_t>(policy.compress_weight)]);
  }
  return entry->second;
}

std::size_t StagePapers::device_kind(std::int32_t stage) const {
  return kind_of(*request_.machine, stage % on_host_);
}

StageRoom StagePapers::room(std::int32_t stage) const {
  const Machine& machine = machine_of(stage);
  const offload::Budgets& asked = request_.stages[static_cast<std::size_t>(stage)].budgets;
  const auto sharers = static_cast<std::uint64_t>(on_host_);
  StageRoom room;
  // What a machine file does not say has no limit.
  const std::uint64_t host = machine.host.memory;
  room.host_memory = host > 0 ? (host - spare_of_host(host)) / sharers : kNoLimit;
  room.shared = !is_gpu(machine);
  room.tier = {kNoLimit, room.host_memory, kNoLimit};
  if (!room.shared && machine.device.memory > 0) {
    const std::uint64_t taken = spare_device_bytes(machine.device.memory) + kCudaContextBytes +
                                (stages() > 1 ? comm::kNcclDeviceBytes : 0);
    room.tier[index_of(Tier::device)] =
        machine.device.memory - std::min(machine.device.memory, taken);
  }
  if (machine.disk.free_bytes > 0) {
    room.tier[index_of(Tier::disk)] = machine.disk.free_bytes / 20 * 19 / sharers;
  }
  for (std::size_t tier = 0; tier < room.tier.size(); ++tier) {
    if (asked.bytes[tier] > 0) room.tier[tier] = std::min(room.tier[tier], asked.bytes[tier]);
  }
  return room;
}

double StagePapers::message_seconds() const {
  double seconds = 0;
  for (std::int32_t stage = 0; stages() > 1 && stage < stages(); ++stage) {
    const std::int32_t next = (stage + 1) % stages();
    seconds += latency_between(*request_.machine, stage / on_host_ == next / on_host_);
  }
  return seconds;
}

CostModel StagePapers::cost(const stage::StageLayout& layout) const {
  const offload::Policy& policy = layout.config.policy;
  StagePlace place;
  place.ranks_on_host = on_host_;
  place.threads = layout.config.threads;
  place.next_on_same_host = (layout.stage + 1) % on_host_ != 0;
  place.pinned = policy.pin_weight;
  const DType storage = policy.compress_weight == offload::Compression::none        ? weight_dtype_
                        : policy.compress_weight == offload::Compression::eight_bit ? DType::q8
                                                                                    : DType::q4;
  return CostModel(machine_of(layout.stage), place, storage, layout.cache_dtype(),
                   layout.config.limits);
}

offload::PerTier<std::uint64_t> StagePapers::missing(const offload::MemoryPlan& plan,
                                                     const StageRoom& room) {
  offload::PerTier<std::uint64_t> missing = {};
  for (std::size_t tier = 0; tier < missing.size(); ++tier) {
    const std::uint64_t wanted = plan.total(static_cast<Tier>(tier));
    missing[tier] = wanted - std::min(wanted, room.tier[tier]);
  }
  if (!room.shared) return missing;
  const std::uint64_t device = plan.total(Tier::device);
  const std::uint64_t host = plan.total(Tier::host);
  const std::uint64_t both = host > kNoLimit - device ? kNoLimit : device + host;
  std::uint64_t& beyond = missing[index_of(Tier::host)];
  beyond = std::max(beyond, both - std::min(both, room.host_memory));
  return missing;
}

bool StagePapers::fits(const offload::MemoryPlan& plan, const StageRoom& room) {
  const auto beyond = missing(plan, room);
  return std::ranges::all_of(beyond, [](std::uint64_t bytes) { return bytes == 0; });
}

}  // namespace sluice::launcher
