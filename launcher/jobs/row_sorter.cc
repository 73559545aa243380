#include "launcher/jobs/row_sorter.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/jobs/answer_form.h"

namespace sluice::launcher {
namespace {

/// What rows and failures have alike.
struct Name {
  std::int64_t line;
  std::string& custom_id;
  Naming& naming;
  RowForm form;
  std::string& kept_fields;
};

Name name_of(ParsedRow& parsed) {
  return std::visit(
      [](auto& one) {
        return Name{one.line, one.custom_id, one.naming, one.form, one.kept_fields};
      },
      parsed);
}

}  // namespace

std::optional<JobRow> RowSorter::sort(ParsedRow parsed) {
  const Name name = name_of(parsed);
  const bool made_up = name.naming == Naming::made_up;
  std::uint64_t key = key_of_id(name.custom_id);
  RowIds::Entry before;
  const bool taken = made_up && names_.has(name.line);
  if (!taken) before = finished_.ids().meet(key, name.line, made_up);
  if (taken || (made_up && before.met == RowIds::Met::row)) {
    name.naming = Naming::none;
    name.custom_id.clear();
    key = key_of_line(name.line);
    before = finished_.ids().meet(key, name.line, true);
  }
  if (before.met == RowIds::Met::answered) {
    ++skipped_;
    return std::nullopt;
  }
  if (before.met == RowIds::Met::row) {
    // Only where the input could not be looked at before: both are answered.
    if (before.made_up && !made_up) {
      finished_.ids().give(key, name.line);
      warn_of_shared_name(name.custom_id, name.line, before.line);
      return JobRow{std::move(parsed)};
    }
    auto refused = refuse_duplicate(key, name.line, name.custom_id, name.form, before.line);
    if (refused) std::get<RowFailure>(refused->row).kept_fields = name.kept_fields;
    return refused;
  }
  const std::uint64_t error_before =
      before.met == RowIds::Met::failed ? finished_.error_of(key) : 0;
  finished_.forget_error(key);
  if (const auto* failure = std::get_if<RowFailure>(&parsed);
      failure != nullptr && error_before == hash_of(failure_record(*failure))) {
    ++skipped_;
    ++failed_again_;
    return std::nullopt;
  }
  return JobRow{std::move(parsed), error_before};
}

bool RowSorter::is_answered(const RequestRow& row) const {
  const bool nameless = row.naming == Naming::made_up && names_.has(row.line);
  return finished_.ids().is_answered(nameless ? key_of_line(row.line) : key_of_id(row.custom_id));
}

std::optional<JobRow> RowSorter::refuse_duplicate(std::uint64_t key, std::int64_t line,
                                                  const std::string& custom_id, RowForm form,
                                                  std::int64_t first_line) {
  if (finished_.take_duplicate(key)) {
    ++skipped_;
    ++failed_again_;
    return std::nullopt;
  }
  RowFailure failure;
  failure.line = line;
  failure.custom_id = custom_id;
  failure.form = form;
  failure.param = "custom_id";
  failure.code = kDuplicateCustomId;
  failure.message =
      fmt::format("line {} has the custom_id \"{}\" of {}; give every row its own", line, custom_id,
                  first_line > 0 ? fmt::format("line {}", first_line) : "an earlier line");
  return JobRow{std::move(failure)};
}

void RowSorter::warn_of_shared_name(const std::string& custom_id, std::int64_t line,
                                    std::int64_t first) {
  warnings_.push_back(fmt::format(
      "line {} has the custom_id \"{}\", which line {} was given, as it has none of its own; the "
      "output has both records",
      line, custom_id, first));
}

std::vector<std::string> RowSorter::take_warnings() { return std::exchange(warnings_, {}); }

}  // namespace sluice::launcher
