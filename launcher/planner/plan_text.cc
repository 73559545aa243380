#include "launcher/planner/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launcher/config/sizes.h"
#include "launcher/planner/prediction_text.h"
#include "launcher/report/durations.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

using offload::Tier;
using stage::Resource;

constexpr Resource kShown[] = {Resource::disk,           Resource::host_to_device,
                               Resource::device_to_host, Resource::compute,
                               Resource::host_compute,   Resource::send};

std::string shares_text(const offload::Shares& shares) {
  return fmt::format("{:.4g}/{:.4g}/{:.4g}", shares.device, shares.host, shares.disk);
}

std::string tier_text(const PlannedStage& stage, Tier tier) {
  const std::uint64_t bytes = stage.memory.total(tier);
  return bytes > 0 ? format_size(bytes) : "-";
}

std::string seconds_text(double seconds) {
  if (seconds <= 0) return "-";
  return seconds < 0.1 ? fmt::format("{:.3g} ms", 1000 * seconds)
                       : fmt::format("{:.3g} s", seconds);
}

/// Stages in a row that differ in nothing but their layers' numbers.
std::size_t last_alike(const Plan& plan, std::size_t first) {
  const auto alike = [](const PlannedStage& one, const PlannedStage& other) {
    return one.config.layers == other.config.layers &&
           one.prefill.seconds == other.prefill.seconds &&
           one.decode.seconds == other.decode.seconds &&
           one.memory.total(Tier::device) == other.memory.total(Tier::device) &&
           one.memory.total(Tier::host) == other.memory.total(Tier::host) &&
           one.memory.total(Tier::disk) == other.memory.total(Tier::disk);
  };
  std::size_t last = first;
  while (last + 1 < plan.stages.size() && alike(plan.stages[first], plan.stages[last + 1])) ++last;
  return last;
}

std::string numbers_text(std::size_t first, std::size_t last) {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

std::string stages_text(const Plan& plan) {
  TextTable table("llrlllrrr", {"stage", "layers", "of each", "weights", "cache", "activations",
                                "device", "host", "disk"});
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const std::size_t last = last_alike(plan, s);
    const PlannedStage& stage = plan.stages[s];
    const stage::StageConfig& end = plan.stages[last].config;
    const offload::Policy& policy = stage.config.policy;
    table.add({numbers_text(s, last),
               numbers_text(static_cast<std::size_t>(stage.config.first_layer),
                            static_cast<std::size_t>(end.first_layer + end.layers - 1)),
               std::to_string(stage.config.layers), shares_text(policy.weights),
               shares_text(policy.cache), shares_text(policy.activations),
               tier_text(stage, Tier::device), tier_text(stage, Tier::host),
               tier_text(stage, Tier::disk)});
    s = last;
  }
  return table.text(2);
}

std::string passes_text(const Plan& plan) {
  std::vector<std::string> header = {"stage", "pass"};
  for (const Resource resource : kShown) header.emplace_back(stage::name_of(resource));
  header.insert(header.end(), {"takes", "bound by"});
  TextTable table("ll" + std::string(std::size(kShown) + 1, 'r') + "l", header);
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const std::size_t last = last_alike(plan, s);
    const PlannedStage& stage = plan.stages[s];
    const auto add = [&](const std::string& number, const char* kind, const BusySeconds& busy,
                         const PassSeconds& pass) {
      std::vector<std::string> row = {number, kind};
      for (const Resource resource : kShown) row.push_back(seconds_text(busy[resource]));
      row.push_back(seconds_text(pass.seconds));
      row.emplace_back(pass.binding);
      table.add(std::move(row));
    };
    add(numbers_text(s, last), "prefill", stage.busy.prefill, stage.prefill);
    add("", "decode", stage.busy.decode, stage.decode);
    s = last;
  }
  return table.text(2);
}

std::string batching_text(const Plan& plan) {
  const stage::Batching& batching = plan.batching;
  const offload::Policy& policy = plan.stages.front().config.policy;
  const char* const compressed =
      policy.compress_weight == offload::Compression::none        ? "not compressed"
      : policy.compress_weight == offload::Compression::eight_bit ? "in 8 bits"
                                                                  : "in 4 bits";
  std::string text = fmt::format(
      "  {} sequence{} x {} GPU batch{} x {} micro-batch{}, at most {} new tokens of a GPU batch "
      "in a pass; weights {}",
      batching.gpu_batch_size, batching.gpu_batch_size == 1 ? "" : "s", batching.num_gpu_batches,
      batching.num_gpu_batches == 1 ? "" : "es", batching.micro_batches,
      batching.micro_batches == 1 ? "" : "es", batching.max_tokens_per_gpu_batch, compressed);
  if (policy.cache_dtype) text += fmt::format(", cache in {}", name_of(*policy.cache_dtype));
  if (policy.kept_millionths() > 0) {
    text += fmt::format(", answers attend to {:g} of the values", policy.attn_sparsity);
  }
  const bool on_host = std::ranges::any_of(
      plan.stages, [](const PlannedStage& stage) { return stage.config.policy.cache.host > 0; });
  if (on_host) {
    text += policy.cpu_cache_compute ? ", the host attends its cache"
                                     : ", the host's cache is streamed";
  }
  return text + '\n';
}

}  // namespace

std::string job_text(const Plan& plan) {
  const JobSeconds& seconds = plan.seconds;
  return fmt::format(
      "{} sequence{}, {:.0f} tokens of answers: prefill {}, decode {}, in all {} ({:.2f} h): "
      "{:.4g} "
      "tokens/s; a sequence takes {}",
      plan.sequences, plan.sequences == 1 ? "" : "s", plan.generated_tokens,
      format_seconds(seconds.prefill), format_seconds(seconds.decode),
      format_seconds(seconds.total), seconds.total / 3600, plan.tokens_per_second(),
      format_seconds(seconds.latency));
}

std::string plan_line(const Plan& plan) {
  const stage::Batching& batching = plan.batching;
  const offload::Policy& policy = plan.stages.front().config.policy;
  return fmt::format(
      "{} x {} sequences in {} micro-batch{}, passes of {} tokens, weights {}, cache {}{}, "
      "activations {}: {:.4g} tokens/s{}",
      batching.gpu_batch_size, batching.num_gpu_batches, batching.micro_batches,
      batching.micro_batches == 1 ? "" : "es", batching.max_tokens_per_gpu_batch,
      shares_text(policy.weights), shares_text(policy.cache),
      policy.cache.host > 0 && policy.cpu_cache_compute ? " attended by the host" : "",
      shares_text(policy.activations), plan.tokens_per_second(),
      plan.simulated ? "" : " (estimated)");
}

std::string plan_text(const PlanRequest& request, const Plan& plan) {
  const Machine& machine = *request.machine;
  std::string text = fmt::format(
      "plan for {} stage{} on machine '{}'{}\n", plan.stages.size(),
      plan.stages.size() == 1 ? "" : "s", machine.name,
      machine.on_paper ? ", which is on paper" : fmt::format(", measured {}", machine.date));
  text += batching_text(plan);
  text += stages_text(plan);
  text += "seconds of a pass:\n" + passes_text(plan);
  text += fmt::format(
      "predicted, loading apart: {}{}\n", job_text(plan),
      not_counted(request.batching.draft_tokens > 0, request.model->adapters.specs != nullptr));
  return text;
}

std::string curve_text(const std::vector<LatencyPoint>& curve) {
  constexpr int kHeight = 8;
  constexpr int kWidth = 60;
  if (curve.size() < 2) return "";
  const double most = curve.back().tokens_per_second;
  const double first = std::log(curve.front().latency);
  const double span = std::log(curve.back().latency) - first;
  if (!(most > 0) || !(span > 0)) return "";
  // Of each column the best that takes no longer.
  std::vector<int> heights(kWidth, 0);
  for (const LatencyPoint& point : curve) {
    const auto column = static_cast<std::size_t>(
        std::lround((kWidth - 1) * (std::log(point.latency) - first) / span));
    const int height =
        std::max(1, static_cast<int>(std::lround(kHeight * point.tokens_per_second / most)));
    heights[column] = std::max(heights[column], height);
  }
  for (std::size_t i = 1; i < heights.size(); ++i)
    heights[i] = std::max(heights[i], heights[i - 1]);
  std::string text = "tokens/s over the time that a sequence takes:\n";
  for (int row = kHeight; row > 0; --row) {
    std::string line(kWidth, ' ');
    for (std::size_t i = 0; i < heights.size(); ++i) {
      if (heights[i] >= row) line[i] = '#';
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += fmt::format("{:>10.4g} |{}\n", most * row / kHeight, line);
  }
  const std::string from = format_seconds(curve.front().latency);
  text += fmt::format("{:>10} +{}\n{:>12}{:>{}}\n", "", std::string(kWidth, '-'), from,
                      format_seconds(curve.back().latency), kWidth);
  return text;
}

}  // namespace sluice::launcher
