#include "launcher/report/report_json.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "kernels/device/error.h"
#include "launcher/config/version.h"
#include "launcher/json/json.h"
#include "launcher/report/resources.h"

namespace sluice::launcher {

namespace {

/// "wait weights" -> "wait_weights".
std::string key_of(Activity activity) {
  std::string key = name_of(activity);
  std::replace(key.begin(), key.end(), ' ', '_');
  return key;
}

Json json_of(const stage::ActivityTotals& totals) {
  Json json;
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    json[key_of(static_cast<Activity>(a))] = {{"seconds", totals.seconds[a]},
                                              {"bytes", totals.bytes[a]},
                                              {"exposed_seconds", totals.exposed[a]}};
  }
  return json;
}

void read(const Json& json, stage::ActivityTotals& totals) {
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    const Json& activity = json.at(key_of(static_cast<Activity>(a)));
    activity.at("seconds").get_to(totals.seconds[a]);
    activity.at("bytes").get_to(totals.bytes[a]);
    activity.at("exposed_seconds").get_to(totals.exposed[a]);
  }
}

Json json_of(const stage::PhaseReport& phase) {
  return {{"wall_seconds", phase.wall_seconds},
          {"passes", phase.passes},
          {"activities", json_of(phase.totals)},
          {"work",
           {{"flop", phase.work.flop},
            {"weight_bytes", phase.work.weight_bytes},
            {"kv_bytes", phase.work.kv_bytes},
            {"host_flop", phase.work.host_flop},
            {"host_kv_bytes", phase.work.host_kv_bytes}}}};
}

void read(const Json& json, stage::PhaseReport& phase) {
  json.at("wall_seconds").get_to(phase.wall_seconds);
  json.at("passes").get_to(phase.passes);
  read(json.at("activities"), phase.totals);
  const Json& work = json.at("work");
  work.at("flop").get_to(phase.work.flop);
  work.at("weight_bytes").get_to(phase.work.weight_bytes);
  work.at("kv_bytes").get_to(phase.work.kv_bytes);
  work.at("host_flop").get_to(phase.work.host_flop);
  work.at("host_kv_bytes").get_to(phase.work.host_kv_bytes);
}

struct NamedRate {
  const char* key;
  double stage::MachineRates::*rate;
};
constexpr NamedRate kRates[] = {{"memory_read", &stage::MachineRates::memory_read},
                                {"flop", &stage::MachineRates::flop},
                                {"host_to_device", &stage::MachineRates::host_to_device},
                                {"device_to_host", &stage::MachineRates::device_to_host},
                                {"disk_read", &stage::MachineRates::disk_read},
                                {"disk_write", &stage::MachineRates::disk_write},
                                {"device_read", &stage::MachineRates::device_read}};

Json json_of(const stage::StageReport& report) {
  Json json = {{"rank", report.rank},
               {"host", report.host},
               {"device", report.device},
               {"disk", report.disk},
               {"transport", report.transport},
               {"interfaces", report.interfaces},
               {"first_layer", report.first_layer},
               {"layers", report.layers},
               {"cache",
                {{"dtype", report.cache_dtype},
                 {"tokens_stored", report.cache_tokens_stored},
                 {"tokens_taken", report.cache_tokens_taken}}},
               {"load_seconds", report.load_seconds},
               {"load", {{"activities", json_of(report.load)}}},
               {"run", json_of(report.run)},
               {"decode", json_of(report.decode)},
               {"measures_stalls", report.measures_stalls}};
  for (const NamedRate& named : kRates) json["rates"][named.key] = report.rates.*named.rate;
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    const stage::TierReport& tier = report.tiers[t];
    json["tiers"][name_of(static_cast<offload::Tier>(t))] = {
        {"budget", tier.budget},
        {"planned", tier.planned},
        {"high_water", tier.high_water},
        {"weight_share_asked", report.weight_share_asked[t]},
        {"weight_share_achieved", report.weight_share_achieved[t]}};
  }
  json["plan"] = Json::array();
  for (const offload::Reservation& reservation : report.plan) {
    json["plan"].push_back({{"tier", name_of(reservation.tier)},
                            {"purpose", reservation.purpose},
                            {"bytes", reservation.bytes}});
  }
  return json;
}

offload::Tier tier_named(const std::string& name) {
  for (int t = 0; t < offload::kTierCount; ++t) {
    if (name == name_of(static_cast<offload::Tier>(t))) return static_cast<offload::Tier>(t);
  }
  throw InputError(fmt::format("a stage's report names a tier '{}', which there is not", name));
}

stage::StageReport report_of(const Json& json) {
  stage::StageReport report;
  json.at("rank").get_to(report.rank);
  json.at("host").get_to(report.host);
  json.at("device").get_to(report.device);
  json.at("disk").get_to(report.disk);
  json.at("transport").get_to(report.transport);
  for (const Json& name : json.at("interfaces")) report.interfaces.push_back(name.text());
  json.at("first_layer").get_to(report.first_layer);
  json.at("layers").get_to(report.layers);
  json.at("cache").at("dtype").get_to(report.cache_dtype);
  json.at("cache").at("tokens_stored").get_to(report.cache_tokens_stored);
  json.at("cache").at("tokens_taken").get_to(report.cache_tokens_taken);
  json.at("load_seconds").get_to(report.load_seconds);
  read(json.at("load").at("activities"), report.load);
  read(json.at("run"), report.run);
  read(json.at("decode"), report.decode);
  json.at("measures_stalls").get_to(report.measures_stalls);
  for (const NamedRate& named : kRates) {
    json.at("rates").at(named.key).get_to(report.rates.*named.rate);
  }
  for (std::size_t t = 0; t < offload::kTierCount; ++t) {
    const Json& tier = json.at("tiers").at(name_of(static_cast<offload::Tier>(t)));
    tier.at("budget").get_to(report.tiers[t].budget);
    tier.at("planned").get_to(report.tiers[t].planned);
    tier.at("high_water").get_to(report.tiers[t].high_water);
    tier.at("weight_share_asked").get_to(report.weight_share_asked[t]);
    tier.at("weight_share_achieved").get_to(report.weight_share_achieved[t]);
  }
  for (const Json& reservation : json.at("plan")) {
    report.plan.push_back({tier_named(reservation.at("tier").text()),
                           reservation.at("purpose").text(),
                           reservation.at("bytes").unsigned_integer()});
  }
  return report;
}

/// Of what is not known: null.
Json known(double value) { return value >= 0 ? Json(value) : Json(nullptr); }

Json json_of(const ResourceUse& use) {
  return {{"name", use.name},
          {"bytes", use.bytes},
          {"flop", use.flop},
          {"busy_seconds", use.busy_seconds},
          {"bytes_per_second", known(use.rate())},
          {"measured_bytes_per_second", known(use.measured_rate)},
          {"measured_flop_per_second", known(use.measured_flop)},
          {"of_measured", known(use.of_measured())},
          {"hidden", known(use.hidden)}};
}

Json json_of(const Bound& bound) {
  return {{"resource", bound.name}, {"seconds", bound.seconds}, {"of_wall", known(bound.of_wall)}};
}

Json rate(std::uint64_t tokens, double seconds) {
  return seconds > 0 ? Json(static_cast<double>(tokens) / seconds) : Json(nullptr);
}

Json json_of(const stage::RunReport& run) {
  return {{"requests", run.requests},
          {"failed", run.failed},
          {"stopped", run.stopped},
          {"prompt_tokens", run.prompt_tokens},
          {"shared_prefix_tokens", run.shared_prefix_tokens},
          {"completion_tokens", run.completion_tokens},
          {"decode_tokens", run.decode_tokens},
          {"wall_seconds", run.wall_seconds},
          {"prefill_seconds", run.prefill_seconds},
          {"decode_seconds", run.decode_seconds},
          {"prefill_tokens_per_second",
           rate(run.prompt_tokens - run.shared_prefix_tokens, run.prefill_seconds)},
          {"decode_tokens_per_second", rate(run.decode_tokens, run.decode_seconds)},
          {"tokens_per_second", rate(run.prompt_tokens + run.completion_tokens, run.wall_seconds)},
          {"completion_tokens_per_second", rate(run.completion_tokens, run.wall_seconds)}};
}

Json json_of(const std::optional<Prediction>& prediction, const stage::RunReport& run,
             bool simulated) {
  if (!prediction) return nullptr;
  Json json = {{"total_seconds", prediction->total_seconds},
               {"prefill_seconds", prediction->prefill_seconds},
               {"decode_seconds", prediction->decode_seconds},
               {"error", nullptr}};
  const bool compared = !simulated && !run.stopped && prediction->total_seconds > 0;
  if (compared) json["error"] = prediction->error(run.wall_seconds);
  return json;
}

}  // namespace

std::string stage_report_to_json(const stage::StageReport& report) {
  return json_of(report).dump();
}

stage::StageReport stage_report_from_json(const std::string& json) {
  try {
    return report_of(Json::parse(json));
  } catch (const JsonError& error) {
    throw InputError(fmt::format("a stage's report cannot be read: {}", error.what()));
  }
}

std::optional<int> slurm_restarts() {
  const char* const text = std::getenv("SLURM_RESTART_COUNT");
  if (text == nullptr) return std::nullopt;
  int count = 0;
  const auto result = std::from_chars(text, text + std::strlen(text), count);
  return result.ec == std::errc() && count > 0 ? std::optional(count) : std::nullopt;
}

std::string report_json(const std::vector<stage::StageReport>& stages, const stage::RunReport& run,
                        const ReportFacts& facts) {
  Json json = {{"format", "sluice-report"},
               {"format_version", 1},
               {"version", kVersion},
               {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                                    fmt::gmtime(std::chrono::system_clock::to_time_t(facts.date)))},
               {"command", facts.command_line},
               {"model", facts.model},
               {"world", facts.world},
               {"simulated", facts.simulated},
               {"slurm_restarts", facts.slurm_restarts ? Json(*facts.slurm_restarts) : Json()},
               {"config", facts.config_yaml},
               {"prediction", json_of(facts.prediction, run, facts.simulated)},
               {"run", json_of(run)}};
  if (facts.simulated) json["rows_simulated"] = facts.rows_simulated;
  json["run"]["restored_tokens"] = facts.journal.restored_tokens;
  json["run"]["drafted_tokens"] = run.drafted_tokens;
  json["run"]["accepted_tokens"] = run.accepted_tokens;
  json["run"]["stepped_back"] = run.stepped_back;
  json["run"]["recomputed_tokens"] =
      facts.journal.recomputed_tokens + static_cast<std::int64_t>(run.recomputed_tokens);
  json["stages"] = Json::array();
  for (const stage::StageReport& stage : stages) {
    json["stages"].push_back(json_of(stage));
    Json& added = json["stages"].back();
    for (const auto& [key, phase] : {std::pair{"run", &stage.run}, {"decode", &stage.decode}}) {
      for (const ResourceUse& use : resource_uses(stage, *phase)) {
        added[key]["resources"].push_back(json_of(use));
      }
      added[key]["bound"] = json_of(bound_of(*phase));
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace sluice::launcher
