#include "launcher/serve/batch.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace sluice::launcher {
namespace {

constexpr std::array kStatuses = {"validating", "in_progress", "finalizing", "completed",
                                  "failed",     "cancelling",  "cancelled",  "expired"};

const char* name_of(BatchStatus status) { return kStatuses[static_cast<std::size_t>(status)]; }

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }
Json time_or_null(std::int64_t time) { return time == 0 ? Json() : Json(time); }

Json counts_json(const Batch::Counts& counts) {
  return {{"total", counts.total}, {"completed", counts.completed}, {"failed", counts.failed}};
}

Json errors_json(const std::string& problem) {
  if (problem.empty()) return {};
  Json error = {
      {"code", "batch_failed"}, {"message", problem}, {"param", nullptr}, {"line", nullptr}};
  return {{"object", "list"}, {"data", Json::array({std::move(error)})}};
}

}  // namespace

bool Batch::has_ended() const { return ended != 0; }

Json batch_json(const Batch& batch) {
  const auto ended_as = [&batch](BatchStatus status) {
    return time_or_null(batch.status == status ? batch.ended : 0);
  };
  return {{"id", batch.id},
          {"object", "batch"},
          {"endpoint", batch.endpoint},
          {"errors", errors_json(batch.problem)},
          {"input_file_id", batch.input_file},
          {"completion_window", kBatchWindow},
          {"status", name_of(batch.status)},
          {"output_file_id", text_or_null(batch.has_ended() ? batch.output_file : "")},
          {"error_file_id", text_or_null(batch.has_ended() ? batch.error_file : "")},
          {"created_at", batch.created},
          {"in_progress_at", time_or_null(batch.begun)},
          {"expires_at", batch.expires},
          {"finalizing_at", time_or_null(batch.finalizing)},
          {"completed_at", ended_as(BatchStatus::completed)},
          {"failed_at", ended_as(BatchStatus::failed)},
          {"expired_at", ended_as(BatchStatus::expired)},
          {"cancelling_at", time_or_null(batch.cancelling)},
          {"cancelled_at", ended_as(BatchStatus::cancelled)},
          {"request_counts", counts_json(batch.counts)},
          {"metadata", batch.metadata}};
}

Json kept_json(const Batch& batch) {
  return {{"id", batch.id},
          {"endpoint", batch.endpoint},
          {"input_file", batch.input_file},
          {"status", name_of(batch.status)},
          {"metadata", batch.metadata},
          {"problem", batch.problem},
          {"output_file", batch.output_file},
          {"error_file", batch.error_file},
          {"counts", counts_json(batch.counts)},
          {"created", batch.created},
          {"begun", batch.begun},
          {"expires", batch.expires},
          {"finalizing", batch.finalizing},
          {"cancelling", batch.cancelling},
          {"ended", batch.ended}};
}

Batch batch_of(const Json& kept) {
  Batch batch;
  kept.at("id").get_to(batch.id);
  kept.at("endpoint").get_to(batch.endpoint);
  kept.at("input_file").get_to(batch.input_file);
  const auto status = std::ranges::find(kStatuses, std::string_view(kept.at("status").text()));
  if (status == kStatuses.end()) throw JsonError(JsonError::Kind::type, "there is no such status");
  batch.status = static_cast<BatchStatus>(status - kStatuses.begin());
  batch.metadata = kept.at("metadata");
  kept.at("problem").get_to(batch.problem);
  kept.at("output_file").get_to(batch.output_file);
  kept.at("error_file").get_to(batch.error_file);
  const Json& counts = kept.at("counts");
  counts.at("total").get_to(batch.counts.total);
  counts.at("completed").get_to(batch.counts.completed);
  counts.at("failed").get_to(batch.counts.failed);
  kept.at("created").get_to(batch.created);
  kept.at("begun").get_to(batch.begun);
  kept.at("expires").get_to(batch.expires);
  kept.at("finalizing").get_to(batch.finalizing);
  kept.at("cancelling").get_to(batch.cancelling);
  kept.at("ended").get_to(batch.ended);
  return batch;
}

}  // namespace sluice::launcher
