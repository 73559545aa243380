#include "launcher/merge/merge_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <istream>
#include <ostream>
#include <utility>

#include "launcher/jobs/input_file.h"
#include "launcher/jobs/input_lines.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/row_name.h"
#include "launcher/json/json.h"
#include "launcher/merge/answer_index.h"
#include "launcher/merge/answers_file.h"
#include "launcher/merge/merged_file.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kFirstFew = 5;  // names that a sentence has

/// Names of rows, the first few of them, and their number.
class NameList {
 public:
  void add(const std::string& name) {
    if (++number_; names_.size() < kFirstFew) names_.push_back(name);
  }
  std::int64_t number() const { return number_; }
  std::string names() const {
    return fmt::format("{}{}", fmt::join(names_, ", "),
                       number_ > static_cast<std::int64_t>(names_.size()) ? ", ..." : "");
  }

 private:
  std::int64_t number_ = 0;
  std::vector<std::string> names_;
};

class Merge {
 public:
  Merge(const MergeArguments& arguments, std::ostream& said) : arguments_(arguments), said_(said) {}

  ExitStatus run() {
    check_output();
    for (const std::string& name : arguments_.files) read(name);
    index_.sort();
    MergedFile output(arguments_.output);
    if (arguments_.input.empty()) {
      index_.take_all([&](const AnswerIndex::Taken& taken) { add(taken, output); });
    } else {
      follow_input(output);
    }
    output.commit();
    return tell();
  }

 private:
  std::string folder() const {
    const std::filesystem::path parent = std::filesystem::path(arguments_.output).parent_path();
    return parent.empty() ? "." : parent.string();
  }

  void check_output() const {
    std::error_code error;
    for (const std::string& name : arguments_.files) {
      if (name != arguments_.output && !std::filesystem::equivalent(name, arguments_.output, error))
        continue;
      throw ConfigError(fmt::format(
          "{} is the output and one of the files to merge; name another output, or fewer files",
          name));
    }
    if (!arguments_.input.empty() &&
        std::filesystem::equivalent(arguments_.input, arguments_.output, error)) {
      throw ConfigError(fmt::format("{} is the input and the output", arguments_.output));
    }
    if (!std::filesystem::exists(arguments_.output, error) || arguments_.overwrite) return;
    throw ConfigError(fmt::format(
        "the output {} exists; replace it by --overwrite, or name another", arguments_.output));
  }

  void read(const std::string& name) {
    const auto number = static_cast<std::uint32_t>(files_.size());
    const AnswersFile& file = files_.emplace_back(name, folder());
    const bool is_whole =
        file.read([&](std::string_view record, std::uint64_t offset, std::int64_t line) {
          const auto facts = facts_of(record);
          if (!facts) {
            throw InputError(
                fmt::format("{}, line {}, is no record of sluice generate; leave the "
                            "file out, or remove the line",
                            name, line));
          }
          index_.add(*facts, {number, offset});
        });
    if (!is_whole) {
      said_ << fmt::format("sluice: {} ends within a record, which is left out\n", name);
    }
  }

  void add(const AnswerIndex::Taken& taken, MergedFile& output) {
    ++(taken.is_answer ? answers_ : errors_);
    output.add(files_[taken.place.file].record_at(taken.place.offset));
  }

  /// As RowSorter names the rows of a run.
  void follow_input(MergedFile& output) {
    InputFile file(arguments_.input);
    if (!file.is_regular()) {
      throw InputError(
          fmt::format("the input {} is read twice, so it must be a file", file.name()));
    }
    const RowNames names = row_names_of(file);
    std::istream in(&file);
    InputLines lines(in, file.name());
    for (InputLine line; lines.next(line);) {
      const RowName name = name_of(line);
      const bool made_up = name.naming == Naming::made_up;
      std::uint64_t key = key_of_id(name.custom_id);
      const bool nameless = made_up && (names.has(line.number) || index_.was_taken(key));
      if (nameless) key = key_of_line(line.number);
      if (const auto taken = index_.take(key)) {
        add(*taken, output);
      } else {
        missing_.add(nameless ? fmt::format("line {}", line.number) : name.custom_id);
      }
    }
  }

  std::string name_at(const RecordPlace& place) {
    AnswersFile& file = files_[place.file];
    const Json record = Json::parse_or_null(file.record_at(place.offset));
    const Json& id = record.member("custom_id");
    const std::string name =
        id.is_string() ? id.text() : fmt::format("line {}", record.member("line").dump());
    return fmt::format("{} in {}", name, file.name());
  }

  std::string names_at(const std::vector<RecordPlace>& places, std::int64_t number) {
    NameList names;
    for (const RecordPlace& place : places) names.add(name_at(place));
    const bool more = number > names.number();
    return names.names() + (more ? ", ..." : "");
  }

  ExitStatus tell() {
    said_ << fmt::format("sluice: merged {} answers and {} error records of {} files into {}\n",
                         answers_, errors_, files_.size(), arguments_.output);
    const AnswerIndex::Rest rest = index_.rest(kFirstFew);
    if (missing_.number() > 0) {
      said_ << fmt::format(
          "sluice: {} rows of {} have no record: {}; sluice generate --resume with this output "
          "answers them\n",
          missing_.number(), arguments_.input, missing_.names());
    }
    if (rest.num_doubles > 0) {
      said_ << fmt::format("sluice: {} further answers of rows that have one are left out: {}\n",
                           rest.num_doubles, names_at(rest.doubles, rest.num_doubles));
    }
    if (rest.num_foreign > 0) {
      said_ << fmt::format(
          "sluice: the records of {} rows that {} does not have are left out: {}\n",
          rest.num_foreign, arguments_.input, names_at(rest.foreign, rest.num_foreign));
    }
    const bool complete = errors_ + missing_.number() + rest.num_foreign == 0;
    return complete ? ExitStatus::done : ExitStatus::rows_failed;
  }

  const MergeArguments& arguments_;
  std::ostream& said_;
  std::vector<AnswersFile> files_;
  AnswerIndex index_;
  NameList missing_;
  std::int64_t answers_ = 0;
  std::int64_t errors_ = 0;
};

}  // namespace

ExitStatus merge(const MergeArguments& arguments, std::ostream& said) {
  return Merge(arguments, said).run();
}

}  // namespace sluice::launcher
