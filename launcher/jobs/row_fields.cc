#include "launcher/jobs/row_fields.h"

#include <fmt/format.h>

#include <limits>

namespace sluice::launcher {

std::string shown(const Json& value) {
  std::string text = value.dump(-1, true);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

const Json* RowFields::find(const char* name) const {
  const Json* found = object_.find(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

void RowFields::refuse(const char* name, const Json& value, const std::string& wanted) {
  throw RowProblem{fmt::format("{} is {}; it must be {}", name, shown(value), wanted), name};
}

std::optional<std::int64_t> RowFields::integer(const char* name, std::int64_t low,
                                               std::int64_t high) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  if (!value->is_integer_in(low, high)) {
    refuse(name, *value, fmt::format("an integer from {} to {}", low, high));
  }
  return value->integer();
}

std::optional<float> RowFields::number(const char* name, float low, float high,
                                       bool without_low) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  const double given =
      value->is_number() ? value->number() : std::numeric_limits<double>::quiet_NaN();
  const auto narrow = static_cast<float>(given);
  if (!(given <= high && (without_low ? narrow > low : given >= low))) {
    refuse(name, *value,
           fmt::format("a number {} {} and at most {}", without_low ? "above" : "of at least", low,
                       high));
  }
  return narrow;
}

std::optional<bool> RowFields::boolean(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  if (!value->is_boolean()) refuse(name, *value, "true or false");
  return value->boolean();
}

std::optional<std::string> RowFields::text(const char* name) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  if (!value->is_string()) refuse(name, *value, "a text");
  return value->text();
}

std::optional<std::vector<std::int32_t>> RowFields::ids(const char* name,
                                                        std::int32_t vocabulary) const {
  const Json* value = find(name);
  if (value == nullptr) return {};
  if (!value->is_array()) refuse(name, *value, "a list of token ids");
  std::vector<std::int32_t> list;
  for (const Json& id : *value) {
    if (!id.is_integer_in(0, vocabulary - 1)) {
      throw RowProblem{
          fmt::format("{}[{}] is {}; token ids of this model are integers from 0 to {}", name,
                      list.size(), shown(id), vocabulary - 1),
          name};
    }
    list.push_back(static_cast<std::int32_t>(id.integer()));
  }
  return list;
}

void RowFields::require(const char* name, bool (*harmless)(const Json&)) const {
  const Json* value = find(name);
  if (value == nullptr || harmless(*value)) return;
  throw RowProblem{
      fmt::format("{} is {}, which is not supported; leave it out", name, shown(*value)), name};
}

}  // namespace sluice::launcher
