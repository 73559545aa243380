#include "launcher/jobs/finished_rows.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;

const json& member(const json& object, const char* key) {
  static const json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNull;
}

}  // namespace

void FinishedRows::add(std::string_view record, const std::string& where) {
  const json row = json::parse(record, nullptr, false);
  const json& custom_id = member(row, "custom_id");
  if (!custom_id.is_string()) {
    throw InputError(
        fmt::format("{} is no record of an earlier run; remove the line, or start anew "
                    "with --overwrite",
                    where));
  }
  ++records_;
  const json& plain = member(row, "error");
  const json& batch = member(member(member(row, "response"), "body"), "error");
  const json& error = plain.is_object() ? plain : batch;
  if (error.is_object()) ++failures_;
  if (member(error, "code") == kDuplicateCustomId) {
    ++duplicates_[custom_id.get<std::string>()];
  } else {
    ids_.insert(custom_id.get<std::string>());
  }
}

bool FinishedRows::take_duplicate(const std::string& custom_id) {
  const auto found = duplicates_.find(custom_id);
  if (found == duplicates_.end() || found->second == 0) return false;
  --found->second;
  return true;
}

}  // namespace sluice::launcher
