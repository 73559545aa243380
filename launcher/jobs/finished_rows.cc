#include "launcher/jobs/finished_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "kernels/device/error.h"
#include "launcher/jobs/request_row.h"
#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

/// The custom_id of an answer as answer_record() writes it, where it has no escapes: nine million
/// records are read in seconds. Nothing: read the record as JSON.
std::optional<std::string_view> id_of_answer(std::string_view record) {
  constexpr std::string_view kPlain = "{\"custom_id\":\"";
  constexpr std::string_view kBatch = "{\"id\":\"batch_req_";
  constexpr std::string_view kBatchId = "\",\"custom_id\":\"";
  constexpr std::size_t kDigits = 16;
  const bool plain = record.starts_with(kPlain);
  if (plain) {
    record.remove_prefix(kPlain.size());
  } else {
    if (!record.starts_with(kBatch)) return {};
    record.remove_prefix(std::min(kBatch.size() + kDigits, record.size()));
    if (!record.starts_with(kBatchId)) return {};
    record.remove_prefix(kBatchId.size());
  }
  const std::size_t end = record.find_first_of("\"\\");
  if (end == std::string_view::npos || record[end] == '\\' || !record.ends_with('}')) return {};
  const std::string_view rest = record.substr(end);
  const bool answered = plain ? rest.starts_with("\",\"text\":") ||
                                    rest.starts_with("\",\"scores\":") ||
                                    rest.starts_with("\",\"embedding\":")
                              : rest.starts_with("\",\"response\":{\"status_code\":200,");
  return answered ? std::optional(record.substr(0, end)) : std::nullopt;
}

}  // namespace

std::optional<RecordFacts> facts_of(std::string_view record) {
  if (const auto id = id_of_answer(record)) return RecordFacts{key_of_id(*id)};
  const Json row = Json::parse_or_null(record);
  const Json& custom_id = row.member("custom_id");
  const Json& line = row.member("line");
  const bool nameless =
      row.contains("custom_id") && custom_id.is_null() && line.is_integer_in(1, INT64_MAX);
  if (!custom_id.is_string() && !nameless) return {};
  RecordFacts facts = {nameless ? key_of_line(line.integer()) : key_of_id(custom_id.text())};
  const Json& plain = row.member("error");
  const Json& batch = row.member("response").member("body").member("error");
  const Json& error = plain.is_object() ? plain : batch;
  if (error.is_object()) {
    const bool is_duplicate = error.member("code") == kDuplicateCustomId;
    facts.kind = is_duplicate ? RecordKind::duplicate : RecordKind::error;
  }
  return facts;
}

void FinishedRows::refuse(const std::string& where) {
  throw InputError(
      fmt::format("{} is no record of an earlier run; remove the line, or start anew "
                  "with --overwrite",
                  where));
}

bool FinishedRows::take(std::string_view record) {
  const auto facts = facts_of(record);
  if (!facts) return false;
  ++records_;
  switch (facts->kind) {
    case RecordKind::answer:
      ids_.add_answered(facts->key);
      if (!errors_.empty()) errors_.erase(facts->key);
      break;
    case RecordKind::error:
      ids_.add_failed(facts->key);
      errors_[facts->key] = hash_of(record);
      break;
    case RecordKind::duplicate:
      ++duplicate_of_[facts->key];
      ++duplicates_;
      break;
  }
  return true;
}

std::uint64_t FinishedRows::error_of(std::uint64_t key) const {
  const auto found = errors_.find(key);
  return found == errors_.end() ? 0 : found->second;
}

bool FinishedRows::take_duplicate(std::uint64_t key) {
  const auto found = duplicate_of_.find(key);
  if (found == duplicate_of_.end() || found->second == 0) return false;
  --found->second;
  --duplicates_;
  return true;
}

}  // namespace sluice::launcher
