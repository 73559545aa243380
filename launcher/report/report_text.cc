#include "launcher/report/report_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config/sizes.h"
#include "launcher/report/durations.h"
#include "launcher/report/memory_table.h"
#include "launcher/report/text_table.h"

namespace sluice::launcher {

namespace {

/// What a stage's time can go to; what is left is the bubble. The executor runs ahead of the
/// device, so its own waiting for a pass says little: the device may be computing meanwhile.
constexpr Activity kActivities[] = {Activity::compute, Activity::host_compute,
                                    Activity::wait_weights, Activity::wait_kv, Activity::send};

double seconds_of(const stage::StageReport& stage, Activity activity) {
  return stage.seconds[static_cast<std::size_t>(activity)];
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
  line("prefill", run.prompt_tokens, run.prefill_seconds);
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
  std::vector<Activity> shown;
  std::vector<std::string> header = {"stage", "layers", "passes", "load", "wall"};
  for (const Activity activity : kActivities) {
    const bool any = std::any_of(stages.begin(), stages.end(), [&](const auto& stage) {
      return seconds_of(stage, activity) > 0;
    });
    if (activity == Activity::host_compute && !any) continue;  // few policies use it
    shown.push_back(activity);
    header.emplace_back(name_of(activity));
  }
  header.emplace_back("idle (bubble)");
  TextTable table("rlrrr" + std::string(shown.size() + 1, 'r'), header);
  for (const stage::StageReport& stage : stages) {
    const std::string layers = layers_text(stage);
    std::vector<std::string> row = {
        fmt::format("{}", stage.rank), layers.substr(layers.find(' ') + 1),
        fmt::format("{}", stage.passes), fmt::format("{:.2f}", stage.load_seconds),
        fmt::format("{:.2f}", stage.wall_seconds)};
    double left = stage.wall_seconds;
    for (const Activity activity : shown) {
      row.push_back(seconds_and_part(seconds_of(stage, activity), stage.wall_seconds));
      if (activity != Activity::host_compute) left -= seconds_of(stage, activity);
    }
    row.push_back(seconds_and_part(std::max(left, 0.0), stage.wall_seconds));
    table.add(std::move(row));
  }
  return table.text(2);
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

std::string traffic(const std::vector<stage::StageReport>& stages) {
  constexpr Activity kLinks[] = {Activity::disk_read,      Activity::disk_write,
                                 Activity::host_to_device, Activity::device_to_host,
                                 Activity::send,           Activity::receive};
  TextTable table("rlrrr", {"stage", "link", "bytes", "busy", "per second"});
  bool any = false;
  for (const stage::StageReport& stage : stages) {
    for (const Activity link : kLinks) {
      const std::uint64_t bytes = stage.bytes[static_cast<std::size_t>(link)];
      const double seconds = stage.seconds[static_cast<std::size_t>(link)];
      if (bytes == 0) continue;
      any = true;
      table.add({fmt::format("{}", stage.rank), name_of(link), format_size(bytes),
                 format_seconds(seconds),
                 seconds > 0
                     ? format_size(static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds))
                     : std::string("-")});
    }
  }
  return any ? "\nBytes moved:\n" + table.text(2) : std::string();
}

}  // namespace

std::string report_text(const std::vector<stage::StageReport>& stages,
                        const stage::RunReport& run) {
  std::string out = fmt::format("{} prompt{} in {}", run.requests, run.requests == 1 ? "" : "s",
                                format_seconds(run.wall_seconds));
  if (run.failed > 0) out += fmt::format(", {} failed", run.failed);
  out += "\n" + throughput(run);
  out += "\nWhere the time of each stage went, in seconds and percent of its wall time:\n" +
         times(stages);
  out += "\nMemory:\n" + memory(stages);
  return out + traffic(stages);
}

}  // namespace sluice::launcher
