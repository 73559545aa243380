#include "launcher/jobs/finished_rows.h"

#include <fmt/format.h>

#include "kernels/device/error.h"
#include "launcher/jobs/request_row.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

void FinishedRows::add(std::string_view record, const std::string& where) {
  const Json row = Json::parse_or_null(record);
  const Json& custom_id = row.member("custom_id");
  if (!custom_id.is_string()) {
    throw InputError(
        fmt::format("{} is no record of an earlier run; remove the line, or start anew "
                    "with --overwrite",
                    where));
  }
  ++records_;
  const Json& plain = row.member("error");
  const Json& batch = row.member("response").member("body").member("error");
  const Json& error = plain.is_object() ? plain : batch;
  if (error.is_object()) ++failures_;
  if (error.member("code") == kDuplicateCustomId) {
    ++duplicates_[custom_id.text()];
  } else {
    ids_.insert(custom_id.text());
  }
}

bool FinishedRows::take_duplicate(const std::string& custom_id) {
  const auto found = duplicates_.find(custom_id);
  if (found == duplicates_.end() || found->second == 0) return false;
  --found->second;
  return true;
}

}  // namespace sluice::launcher
