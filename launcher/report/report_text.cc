#include "launcher/report/report_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <span>

#include "launcher/config/sizes.h"
#include "launcher/report/durations.h"
#include "launcher/report/memory_table.h"
#include "launcher/report/resources.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

/// Where a stage's time goes, as its compute lane measures it: computing, and standing still.
struct Column {
  const char* name;
  std::initializer_list<Activity> activities;
  bool always;
};
const Column kMeasured[] = {{"compute", {Activity::compute}, true},
                            {"for weights", {Activity::stall_weights}, true},
                            {"for KV", {Activity::stall_kv}, true},
                            {"for activations", {Activity::stall_activations}, false},
                            {"for host compute", {Activity::stall_host_compute}, false},
                            {"for results", {Activity::stall_results}, false},
                            {"for messages", {Activity::stall_message}, false},
                            {"no pass", {Activity::stall_pass}, true}};
/// ... and for a lane that does not measure, where the executor's time goes. The executor runs
/// ahead of the device, so its waits may be hidden behind computing.
const Column kEstimated[] = {{"compute", {Activity::compute}, true},
                             {"wait weights", {Activity::wait_weights}, true},
                             {"wait KV", {Activity::wait_kv, Activity::wait_activations}, true},
                             {"messages", {Activity::send}, false}};

double seconds_of(const stage::StageReport& stage, const Column& column) {
  double seconds = 0;
  for (const Activity activity : column.activities) {
    seconds += stage.run.totals.seconds[static_cast<std::size_t>(activity)];
  }
  return seconds;
}

std::string rate(std::uint64_t tokens, double seconds) {
  if (!(seconds > 0)) return "-";
  return fmt::format("{:.1f}", static_cast<double>(tokens) / seconds);
}

std::string throughput(const stage::RunReport& run) {
  TextTable table("lrrr", {"", "tokens", "seconds", "tokens/s"});
  const auto line = [&](const char* name, std::uint64_t tokens, double seconds) {
    table.add(
        {name, fmt::format("{}", tokens), fmt::format("{:.2f}", seconds), rate(tokens, seconds)});
  };
  line("prefill", run.prompt_tokens - run.shared_prefix_tokens, run.prefill_seconds);
  line("decode", run.decode_tokens, run.decode_seconds);
  line("overall", run.prompt_tokens + run.completion_tokens, run.wall_seconds);
  line("answers, of all time", run.completion_tokens, run.wall_seconds);
  return table.text(2);
}

/// "82.00 82%", aligned within its column.
std::string seconds_and_part(double seconds, double wall) {
  return fmt::format("{:.2f} {:>4}", seconds,
                     wall > 0 ? fmt::format("{:.0f}%", 100 * seconds / wall) : std::string("-"));
}

std::string times(const std::vector<stage::StageReport>& stages) {
  const bool measured = std::all_of(stages.begin(), stages.end(),
                                    [](const auto& stage) { return stage.measures_stalls; });
  const std::span<const Column> columns =
      measured ? std::span<const Column>(kMeasured) : std::span<const Column>(kEstimated);
  std::vector<const Column*> shown;
  std::vector<std::string> header = {"stage", "layers", "passes", "load", "wall"};
  for (const Column& column : columns) {
    const bool any = std::any_of(stages.begin(), stages.end(), [&](const auto& stage) {
      return seconds_of(stage, column) > 0.001 * stage.run.wall_seconds;
    });
    if (!column.always && !any) continue;
    shown.push_back(&column);
    header.emplace_back(column.name);
  }
  header.emplace_back(measured ? "other" : "rest (bubble)");
  TextTable table("rlrrr" + std::string(shown.size() + 1, 'r'), header);
  for (const stage::StageReport& stage : stages) {
    const double wall = stage.run.wall_seconds;
    const std::string layers = layers_text(stage);
    std::vector<std::string> row = {
        fmt::format("{}", stage.rank), layers.substr(layers.find(' ') + 1),
        fmt::format("{}", stage.run.passes), fmt::format("{:.2f}", stage.load_seconds),
        fmt::format("{:.2f}", wall)};
    double left = wall;
    for (const Column* column : shown) {
      row.push_back(seconds_and_part(seconds_of(stage, *column), wall));
      left -= seconds_of(stage, *column);
    }
    row.push_back(seconds_and_part(std::max(left, 0.0), wall));
    table.add(std::move(row));
  }
  const std::string title =
      "Where each stage's time went, in seconds and percent" +
      std::string(measured ? " (\"for\": it stood still for that):\n" : ", as far as is known:\n");
  return title + table.text(2);
}

std::string memory(const std::vector<stage::StageReport>& stages) {
  TextTable table(
      "rlrrrrr", {"stage", "tier", "planned", "high water", "budget", "weights asked", "achieved"});
  for (const stage::StageReport& stage : stages) {
    for (std::size_t t = 0; t < offload::kTierCount; ++t) {
      const stage::TierReport& tier = stage.tiers[t];
      const double asked = stage.weight_share_asked[t];
      const double achieved = stage.weight_share_achieved[t];
      if (tier.planned == 0 && tier.high_water == 0 && asked == 0 && achieved == 0) continue;
      table.add({fmt::format("{}", stage.rank), name_of(static_cast<offload::Tier>(t)),
                 format_size(tier.planned), format_size(tier.high_water),
                 tier.budget == 0 ? "no limit" : format_size(tier.budget),
                 fmt::format("{:.1f} %", asked), fmt::format("{:.1f} %", achieved)});
    }
  }
  return table.text(2);
}

/// One line for all stages: their sequences are the same.
std::string cache(const std::vector<stage::StageReport>& stages) {
  if (stages.empty() || stages.front().cache_tokens_taken == 0) return "";
  const stage::StageReport& stage = stages.front();
  const double stored = static_cast<double>(stage.cache_tokens_stored);
  const double taken = static_cast<double>(stage.cache_tokens_taken);
  return fmt::format(
      "  KV cache: sequences took pages for {} tokens and stored {}; {:.1f} % unused\n",
      stage.cache_tokens_taken, stage.cache_tokens_stored, 100 * (taken - stored) / taken);
}

std::string percent(double part) {
  return part >= 0 ? fmt::format("{:.0f} %", 100 * part) : std::string("-");
}

std::string per_second(double rate) {
  return rate >= 0 ? fmt::format("{:.2f} GB/s", rate / 1e9) : std::string("-");
}

/// "4.10 GB/s", or where products are the bound, "150 GFLOP/s".
std::string of_both(const ResourceUse& use, double rate, double flop) {
  const bool by_flop =
      use.flop > 0 && use.measured_flop > 0 && use.measured_rate > 0 &&
      use.flop / use.measured_flop > static_cast<double>(use.bytes) / use.measured_rate;
  return by_flop ? fmt::format("{:.0f} GFLOP/s", flop / 1e9) : per_second(rate);
}

std::string shared(const stage::RunReport& run) {
  if (run.shared_prefix_tokens == 0) return "";
  return fmt::format(
      "  {} of {} prompt tokens were not computed, as other prompts had begun with them\n",
      run.shared_prefix_tokens, run.prompt_tokens);
}

std::string stepped_back(const stage::RunReport& run) {
  if (run.stepped_back == 0) return "";
  return fmt::format(
      "  unfinished answers gave their part of the KV cache to older ones {} time{}; {} tokens "
      "were "
      "computed again\n",
      run.stepped_back, run.stepped_back == 1 ? "" : "s", run.recomputed_tokens);
}

std::string drafts(const stage::RunReport& run) {
  if (run.drafted_tokens == 0) return "";
  return fmt::format(
      "  {} tokens guessed ahead, {} accepted ({:.0f} %): rows took {} decode steps in place of "
      "{}\n",
      run.drafted_tokens, run.accepted_tokens,
      100.0 * static_cast<double>(run.accepted_tokens) / static_cast<double>(run.drafted_tokens),
      run.decode_tokens - run.accepted_tokens, run.decode_tokens);
}

std::string resources(const std::vector<stage::StageReport>& stages) {
  TextTable table("rlrrrrrr",
                  {"stage", "resource", "bytes", "busy", "achieved", "measured", "part", "hidden"});
  std::string bounds;
  for (const stage::StageReport& stage : stages) {
    const stage::PhaseReport& phase = steady_phase(stage);
    for (const ResourceUse& use : resource_uses(stage, phase)) {
      const bool timed = use.busy_seconds > 0;
      table.add({fmt::format("{}", stage.rank), use.name, format_size(use.bytes),
                 timed ? format_seconds(use.busy_seconds) : "-",
                 timed ? of_both(use, use.rate(), use.flop / use.busy_seconds) : "-",
                 of_both(use, use.measured_rate, use.measured_flop), percent(use.of_measured()),
                 percent(use.hidden)});
    }
    const Bound bound = bound_of(phase);
    if (bound.of_wall < 0 || bound.seconds <= 0) continue;
    bounds += fmt::format("  stage {}, {}: bound by {}, {} of {} ({})\n", stage.rank,
                          &phase == &stage.decode ? "decoding" : "the whole run", bound.name,
                          format_seconds(bound.seconds), format_seconds(phase.wall_seconds),
                          percent(bound.of_wall));
  }
  if (bounds.empty()) return "";
  return "\nResources in the steady state, beside what this machine measured:\n" + table.text(2) +
         bounds;
}

}  // namespace

std::string report_text(const std::vector<stage::StageReport>& stages,
                        const stage::RunReport& run) {
  std::string out = fmt::format("{} prompt{} in {}", run.requests, run.requests == 1 ? "" : "s",
                                format_seconds(run.wall_seconds));
  if (run.stopped) out += ", stopped before the end";
  if (run.failed > 0) out += fmt::format(", {} failed", run.failed);
  out += "\n" + throughput(run) + drafts(run);
  out += "\n" + times(stages);
  out += "\nMemory:\n" + memory(stages) + cache(stages) + shared(run) + stepped_back(run);
  return out + resources(stages);
}

std::string journal_text(const JournalUse& use) {
  if (use.restored_tokens + use.recomputed_tokens == 0) return "";
  return fmt::format("\nJournal: {} tokens of answers restored, {} tokens computed again\n",
                     use.restored_tokens, use.recomputed_tokens);
}

}  // namespace sluice::launcher
