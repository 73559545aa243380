#include "launcher/planner/plan_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/planner/policy_fit.h"
#include "launcher/planner/stage_split.h"
#include "stage/layer_split.h"

namespace sluice::launcher {

namespace {

std::string traits_key(const PlanChoice& choice) {
  return fmt::format("{} {} {} {} {}", choice.batching.gpu_batch_size,
                     choice.batching.max_tokens_per_gpu_batch, choice.cpu_cache_compute,
                     static_cast<int>(choice.compress_weight),
                     choice.cache_dtype ? static_cast<int>(*choice.cache_dtype) : -1);
}

}  // namespace

bool PlanChoice::operator<(const PlanChoice& other) const {
  const auto all = [](const PlanChoice& one) {
    const stage::Batching& of = one.batching;
    return std::tuple(of.gpu_batch_size, of.num_gpu_batches, of.micro_batches,
                      of.max_tokens_per_gpu_batch, one.cpu_cache_compute, one.compress_weight,
                      one.cache_dtype);
  };
  return all(*this) < all(other);
}

PlanChoice choice_of(const Plan& plan) {
  const offload::Policy& policy = plan.stages.front().config.policy;
  return {plan.batching, policy.cpu_cache_compute, policy.compress_weight, policy.cache_dtype};
}

PlanBuilder::PlanBuilder(const PlanRequest& request)
    : request_(request), papers_(request), mix_(pass_mix(request.job)) {
  // Stages that are alike share models, and where they have the same room, shares.
  std::vector<std::string> kinds, rooms;
  const auto number = [](std::vector<std::string>& known, const std::string& key) {
    const auto found = std::ranges::find(known, key);
    if (found != known.end()) return static_cast<std::size_t>(found - known.begin());
    known.push_back(key);
    return known.size() - 1;
  };
  for (std::int32_t s = 0; s < papers_.stages(); ++s) {
    const stage::StageConfig& config = request.stages[static_cast<std::size_t>(s)];
    const StageRoom room = papers_.room(s);
    const stage::RateLimits& limits = config.limits;
    const std::string kind = fmt::format("{} {} {} {} {} {} {} {}", papers_.device_kind(s), s == 0,
                                         s + 1 == papers_.stages(), limits.host_to_device_gbps,
                                         limits.device_to_host_gbps, limits.disk_read_gbps,
                                         limits.disk_write_gbps, config.threads);
    classes_.push_back(
        {number(kinds, kind), number(rooms, fmt::format("{} {} {} {}", room.tier[0], room.tier[1],
                                                        room.tier[2], room.host_memory))});
  }
  scored_layers_ = even_layers();
}

void PlanBuilder::use_layers_of(const PlanChoice& choice) {
  if (auto layers = split(choice)) scored_layers_ = *std::move(layers);
}

bool PlanBuilder::has_unlike_devices() const {
  for (std::int32_t stage = 1; stage < papers_.stages(); ++stage) {
    if (papers_.device_kind(stage) != papers_.device_kind(0)) return true;
  }
  return false;
}

std::vector<std::int32_t> PlanBuilder::even_layers() const {
  std::vector<stage::StageConfig> stages = request_.stages;
  if (!request_.decided.layers) {
    stage::split_layers(stages, request_.decoder().layers,
                        stage::decode_weights(request_.decoder()));
  }
  std::vector<std::int32_t> layers;
  for (const stage::StageConfig& stage : stages) layers.push_back(stage.layers);
  return layers;
}

std::int64_t PlanBuilder::sequences(const stage::Batching& batching) const {
  return request_.job.rows > 0 ? request_.job.rows : batching.slots(papers_.stages());
}

double PlanBuilder::generated_tokens(const stage::Batching& batching) const {
  return request_.job.mean_answer() * static_cast<double>(sequences(batching));
}

offload::Policy PlanBuilder::policy_of(std::int32_t stage, const PlanChoice& choice) const {
  offload::Policy policy = request_.stages[static_cast<std::size_t>(stage)].policy;
  policy.cpu_cache_compute = choice.cpu_cache_compute;
  policy.compress_weight = choice.compress_weight;
  policy.cache_dtype = choice.cache_dtype;
  return policy;
}

ShareModel& PlanBuilder::model(std::int32_t stage, const PlanChoice& choice) {
  const std::string key =
      fmt::format("{} {}", classes_[static_cast<std::size_t>(stage)].kind, traits_key(choice));
  const auto found = models_.find(key);
  if (found != models_.end()) return found->second;
  return models_
      .emplace(key, ShareModel(papers_, stage, policy_of(stage, choice), choice.batching, mix_))
      .first->second;
}

std::optional<ShareChoice> PlanBuilder::shares(std::int32_t stage, std::int32_t layers,
                                               const PlanChoice& choice) {
  const PassCounts counts = pass_counts(request_.job, mix_, choice.batching, papers_.stages());
  return choose_shares(model(stage, choice), layers, choice.batching, papers_.room(stage),
                       counts.prefills, counts.decodes);
}

std::optional<ScoredChoice> PlanBuilder::score(const PlanChoice& choice) try {
  const std::vector<std::int32_t>& layers = scored_layers_;
  std::map<std::tuple<std::size_t, std::size_t, std::int32_t>, std::pair<double, double>> known;
  std::vector<double> prefill, decode;
  for (std::size_t s = 0; s < layers.size(); ++s) {
    const auto key = std::tuple(classes_[s].kind, classes_[s].room, layers[s]);
    if (!known.contains(key)) {
      const auto chosen = shares(static_cast<std::int32_t>(s), layers[s], choice);
      if (!chosen) return std::nullopt;
      known[key] = {chosen->prefill_seconds, chosen->decode_seconds};
    }
    prefill.push_back(known[key].first);
    decode.push_back(known[key].second);
  }
  ScoredChoice scored{choice, job_seconds(request_.job, mix_, choice.batching, prefill, decode,
                                          papers_.message_seconds())};
  scored.tokens_per_second = generated_tokens(choice.batching) / scored.seconds.total;
  return scored;
} catch (const CapacityError&) {  // more pages, or more slots, than can be counted
  return std::nullopt;
}

std::optional<std::vector<std::int32_t>> PlanBuilder::split(const PlanChoice& choice) {
  if (request_.decided.layers || papers_.stages() == 1) return even_layers();
  const PassCounts counts = pass_counts(request_.job, mix_, choice.batching, papers_.stages());
  std::map<std::tuple<std::size_t, std::size_t, std::int32_t>, double> known;
  return split_by_seconds(
      papers_.stages(), request_.decoder().layers, [&](std::int32_t stage, std::int32_t layers) {
        const StageClass& of = classes_[static_cast<std::size_t>(stage)];
        const auto [entry, is_new] = known.try_emplace(std::tuple(of.kind, of.room, layers));
        if (is_new) {
          const auto chosen = shares(stage, layers, choice);
          entry->second = chosen ? counts.prefills * chosen->prefill_seconds +
                                       counts.decodes * chosen->decode_seconds
                                 : std::numeric_limits<double>::infinity();
        }
        return entry->second;
      });
}

std::optional<Plan> PlanBuilder::build(const PlanChoice& choice) try {
  const auto layers = split(choice);
  if (!layers) return std::nullopt;
  const PassCounts counts = pass_counts(request_.job, mix_, choice.batching, papers_.stages());
  // Layers with windows differ in their caches.
  const bool windows = !request_.decoder().attention.windows.empty();
  std::map<std::tuple<std::size_t, std::size_t, std::int32_t, std::int32_t>, offload::Policy> known;
  std::vector<stage::StageConfig> stages = request_.stages;
  std::int32_t next = 0;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const auto stage = static_cast<std::int32_t>(s);
    stages[s].first_layer = next;
    stages[s].layers = (*layers)[s];
    next += stages[s].layers;
    const auto key = std::tuple(classes_[s].kind, classes_[s].room, stages[s].layers,
                                windows ? stages[s].first_layer : 0);
    if (!known.contains(key)) {
      const auto chosen = shares(stage, stages[s].layers, choice);
      if (!chosen) return std::nullopt;
      stages[s].policy = chosen->policy;
      const StageRoom room = papers_.room(stage);
      PolicyFit fit(papers_, model(stage, choice),
                    papers_.layout(stage, stages[s], choice.batching), room, counts);
      if (!fit.run()) return std::nullopt;
      known[key] = fit.policy();
    }
    stages[s].policy = known[key];
  }
  return build(choice, stages);
} catch (const CapacityError&) {
  return std::nullopt;
}

PlannedStage PlanBuilder::paper(std::int32_t stage, const stage::StageConfig& config,
                                const PlanChoice& choice) {
  stage::StageLayout layout = papers_.layout(stage, config, choice.batching);
  const Placement& placement = papers_.placement(layout);
  PlannedStage planned;
  planned.config = config;
  planned.room = papers_.room(stage);
  planned.memory = stage::plan_memory(layout, placement);
  planned.busy = stage_busy(layout, placement, papers_.cost(layout), mix_);
  const std::vector<BusyRow>& rows = model(stage, choice).rows();
  planned.prefill = pass_seconds(planned.busy.prefill, rows);
  planned.decode = pass_seconds(planned.busy.decode, rows);
  return planned;
}

std::optional<Plan> PlanBuilder::build(const PlanChoice& choice,
                                       const std::vector<stage::StageConfig>& stages) try {
  const bool no_windows = request_.decoder().attention.windows.empty();
  Plan plan;
  plan.batching = choice.batching;
  std::vector<double> prefill, decode;
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const auto like = std::ranges::find_if(plan.stages, [&](const PlannedStage& made) {
      const auto index = static_cast<std::size_t>(&made - plan.stages.data());
      return classes_[index].kind == classes_[s].kind && classes_[index].room == classes_[s].room &&
             made.config.layers == stages[s].layers && no_windows &&
             same_shares(made.config.policy, stages[s].policy);
    });
    PlannedStage planned =
        like != plan.stages.end() ? *like : paper(static_cast<std::int32_t>(s), stages[s], choice);
    planned.config = stages[s];
    if (!StagePapers::fits(planned.memory, planned.room)) return std::nullopt;
    prefill.push_back(planned.prefill.seconds);
    decode.push_back(planned.decode.seconds);
    plan.stages.push_back(std::move(planned));
  }
  const std::vector<std::int32_t> even = even_layers();
  plan.even_layers = std::ranges::equal(even, stages, {}, {},
                                        [](const stage::StageConfig& one) { return one.layers; });
  plan.sequences = sequences(plan.batching);
  plan.generated_tokens = generated_tokens(plan.batching);
  plan.seconds =
      job_seconds(request_.job, mix_, plan.batching, prefill, decode, papers_.message_seconds());
  return plan;
} catch (const CapacityError&) {
  return std::nullopt;
}

}  // namespace sluice::launcher
