#include "launcher/jobs/row_name.h"

#include <utility>

#include "launcher/jobs/readable_id.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_reader.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

RowName name_of(const InputLine& line) {
  RowName name = {default_custom_id(line.number), Naming::made_up};
  if (!line.is_json || line.too_long) return name;
  if (const auto alone = name_alone(line)) {
    return {std::get<RequestRow>(alone->row).custom_id, Naming::given};
  }
  try {
    const Json row = Json::parse(line.text);
    const Json& custom_id = row.member("custom_id");
    if (custom_id.is_string()) name = {custom_id.text(), Naming::given};
  } catch (const JsonError&) {
    if (auto id = readable_custom_id(line.text)) name = {std::move(*id), Naming::given};
  }
  return name;
}

}  // namespace sluice::launcher
