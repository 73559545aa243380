#include "launcher/report/report_json.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "launcher/config/version.h"

namespace sluice::launcher {

namespace {

using Json = nlohmann::ordered_json;

/// "wait weights" -> "wait_weights".
std::string key_of(Activity activity) {
  std::string key = name_of(activity);
  std::replace(key.begin(), key.end(), ' ', '_');
  return key;
}

std::string dumped(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json json_of(const stage::StageReport& report) {
  Json json = {{"rank", report.rank},
               {"host", report.host},
               {"device", report.device},
               {"disk", report.disk},
               {"first_layer", report.first_layer},
               {"layers", report.layers},
               {"wall_seconds", report.wall_seconds},
               {"load_seconds", report.load_seconds},
               {"passes", report.passes}};
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    json["activities"][key_of(static_cast<Activity>(a))] = {{"seconds", report.seconds[a]},
                                                            {"bytes", report.bytes[a]}};
  }
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
  json.at("first_layer").get_to(report.first_layer);
  json.at("layers").get_to(report.layers);
  json.at("wall_seconds").get_to(report.wall_seconds);
  json.at("load_seconds").get_to(report.load_seconds);
  json.at("passes").get_to(report.passes);
  for (std::size_t a = 0; a < kActivityCount; ++a) {
    const Json& activity = json.at("activities").at(key_of(static_cast<Activity>(a)));
    activity.at("seconds").get_to(report.seconds[a]);
    activity.at("bytes").get_to(report.bytes[a]);
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
    report.plan.push_back({tier_named(reservation.at("tier").get<std::string>()),
                           reservation.at("purpose").get<std::string>(),
                           reservation.at("bytes").get<std::uint64_t>()});
  }
  return report;
}

Json rate(std::uint64_t tokens, double seconds) {
  return seconds > 0 ? Json(static_cast<double>(tokens) / seconds) : Json(nullptr);
}

Json json_of(const stage::RunReport& run) {
  return {{"requests", run.requests},
          {"failed", run.failed},
          {"prompt_tokens", run.prompt_tokens},
          {"completion_tokens", run.completion_tokens},
          {"decode_tokens", run.decode_tokens},
          {"wall_seconds", run.wall_seconds},
          {"prefill_seconds", run.prefill_seconds},
          {"decode_seconds", run.decode_seconds},
          {"prefill_tokens_per_second", rate(run.prompt_tokens, run.prefill_seconds)},
          {"decode_tokens_per_second", rate(run.decode_tokens, run.decode_seconds)},
          {"tokens_per_second", rate(run.prompt_tokens + run.completion_tokens, run.wall_seconds)},
          {"completion_tokens_per_second", rate(run.completion_tokens, run.wall_seconds)}};
}

}  // namespace

std::string stage_report_to_json(const stage::StageReport& report) {
  return dumped(json_of(report), -1);
}

stage::StageReport stage_report_from_json(const std::string& json) {
  try {
    return report_of(Json::parse(json));
  } catch (const Json::exception& error) {
    throw InputError(fmt::format("a stage's report cannot be read: {}", error.what()));
  }
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
               {"transport", facts.transport},
               {"config", facts.config_yaml},
               {"run", json_of(run)}};
  json["stages"] = Json::array();
  for (const stage::StageReport& stage : stages) json["stages"].push_back(json_of(stage));
  return dumped(json, 2) + "\n";
}

}  // namespace sluice::launcher
