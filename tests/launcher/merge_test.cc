#include "launcher/merge/merge_command.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "launcher/jobs/answer_form.h"
#include "launcher/jobs/coding.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using support::ModelFolder;
using testing::AllOf;
using testing::HasSubstr;

std::string answer_of(const std::string& id, const std::string& text = "x") {
  return "{\"custom_id\":\"" + id + "\",\"text\":\"" + text + "\"}\n";
}

std::string error_of(const std::string& id, std::int64_t line, const std::string& code = "") {
  RowFailure failure;
  failure.line = line;
  failure.custom_id = id;
  failure.message = "bad";
  failure.code = code;
  failure.naming = id.empty() ? Naming::none : Naming::given;
  return failure_record(failure) + "\n";
}

std::string row_of(const std::string& id) {
  return "{\"custom_id\":\"" + id + "\",\"prompt\":\"p\"}\n";
}

std::string encoded(Coding coding, std::string_view plain) {
  std::string coded;
  const auto packer = make_packer(coding);
  packer->add(plain, false, coded);
  packer->finish(coded);
  return coded;
}

class MergeTest : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& bytes) {
    arguments_.files.push_back(folder_.write(name, bytes).string());
  }
  void input(const std::string& bytes, const std::string& name = "in.jsonl") {
    arguments_.input = folder_.write(name, bytes).string();
  }
  ExitStatus run() {
    said_.str("");
    return merge(arguments_, said_);
  }
  std::string merged() const { return folder_.read("out.jsonl"); }
  template <class Problem>
  std::string refusal() {
    try {
      run();
    } catch (const Problem& problem) {
      return problem.what();
    }
    return "";
  }
  std::vector<std::string> names_in_folder() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  ModelFolder folder_;
  MergeArguments arguments_{{}, (folder_.path() / "out.jsonl").string(), "", false};
  std::ostringstream said_;
};

TEST_F(MergeTest, RecordsStandInTheInputsOrder) {
  write("a", answer_of("4") + answer_of("0"));
  write("b", answer_of("1") + answer_of("3") + answer_of("2"));
  input(row_of("0") + "\n" + row_of("1") + row_of("2") + row_of("3") + row_of("4"));
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(merged(),
            answer_of("0") + answer_of("1") + answer_of("2") + answer_of("3") + answer_of("4"));
  EXPECT_THAT(said_.str(), HasSubstr("merged 5 answers and 0 error records of 2 files"));
  EXPECT_THAT(names_in_folder(), testing::UnorderedElementsAre("a", "b", "in.jsonl", "out.jsonl"));
}

TEST_F(MergeTest, WithoutTheInputTheyStandAsInTheFiles) {
  write("a", answer_of("4") + error_of("0", 1));
  write("b", answer_of("1") + answer_of("4", "again") + answer_of("0"));
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(merged(), answer_of("4") + answer_of("1") + answer_of("0"));
  EXPECT_THAT(said_.str(), HasSubstr("1 further answers"));
}

TEST_F(MergeTest, WhatIsMissingIsNamedAndTheRestIsWritten) {
  write("a", answer_of("5") + answer_of("1"));
  std::string rows;
  for (int i = 0; i < 9; ++i) rows += row_of(std::to_string(i));
  input(rows);
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("1") + answer_of("5"));
  EXPECT_THAT(said_.str(),
              HasSubstr("7 rows of " + arguments_.input + " have no record: 0, 2, 3, 4, 6, ...; "));
}

TEST_F(MergeTest, AnAnswerCountsMoreThanAnErrorAndTheFirstMoreThanTheNext) {
  write("a", error_of("0", 1) + answer_of("1", "first") + error_of("2", 3));
  write("b", answer_of("0") + answer_of("1", "second"));
  input(row_of("0") + row_of("1") + row_of("2"));
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("0") + answer_of("1", "first") + error_of("2", 3));
  EXPECT_THAT(said_.str(), AllOf(HasSubstr("2 answers and 1 error records"),
                                 HasSubstr("1 further answers of rows that have one are left out: "
                                           "1 in " +
                                           arguments_.files[1])));
}

TEST_F(MergeTest, ARowTwiceHasItsRefusalInItsPlace) {
  const std::string refused = error_of("0", 2, kDuplicateCustomId);
  write("a", refused + answer_of("1") + answer_of("0"));
  input(row_of("0") + row_of("0") + row_of("1"));
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("0") + refused + answer_of("1"));
}

TEST_F(MergeTest, RecordsOfNoRowAreLeftOut) {
  write("a", answer_of("0") + answer_of("other") + answer_of("other"));
  input(row_of("0"));
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("0"));
  EXPECT_THAT(said_.str(), AllOf(HasSubstr("the records of 1 rows"), HasSubstr("other in ")));
}

// Rows without a name: row-N, or null and the line where another row has that name.
TEST_F(MergeTest, RowsAreNamedAsInARun) {
  write("a", answer_of("row-1") + answer_of("row-4") + error_of("", 3));
  input(row_of("row-3") + "{\"prompt\":\"p\"}\n{\"prompt\":\"p\"}\nnonsense\n" +
        "{\"custom_id\":\"read\",nonsense\n");
  write("b", answer_of("row-3") + answer_of("row-2") + error_of("read", 5));
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("row-3") + answer_of("row-2") + error_of("", 3) +
                          answer_of("row-4") + error_of("read", 5));
  EXPECT_THAT(said_.str(), HasSubstr("row-1 in "));
  arguments_.overwrite = true;
  input("a\n\nb\n", "in.txt");
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("row-1") + answer_of("row-3"));
}

TEST_F(MergeTest, FilesMayBeCoded) {
  std::string rows;
  std::string expected;
  std::string parts[2];
  for (int i = 0; i < 3000; ++i) {
    const std::string id = std::to_string(i);
    const std::string record = answer_of(id, std::string(static_cast<std::size_t>(i % 100), 'x'));
    rows += row_of(id);
    expected += record;
    parts[i % 2].insert(i % 3 == 0 ? 0 : parts[i % 2].size(), record);
  }
  write("a.gz", encoded(Coding::gzip, parts[0]));
  write("b", encoded(Coding::zstd, parts[1]));
  input(encoded(Coding::zstd, rows), "in.jsonl.zst");
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(merged(), expected);
  for (const std::string ending : {".gz", ".zst"}) {
    arguments_.output = (folder_.path() / "out.jsonl").string() + ending;
    EXPECT_EQ(run(), ExitStatus::done);
    EXPECT_EQ(coding_of_bytes(folder_.read("out.jsonl" + ending)),
              ending == ".gz" ? Coding::gzip : Coding::zstd);
    arguments_.files = {arguments_.output};
    arguments_.output = (folder_.path() / "again").string() + ending;
    EXPECT_EQ(run(), ExitStatus::done);
    EXPECT_EQ(folder_.read("again" + ending), folder_.read("out.jsonl" + ending));
  }
  arguments_.output = (folder_.path() / "plain").string();
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(folder_.read("plain"), expected);
  EXPECT_EQ(names_in_folder().size(), 9U);
}

TEST_F(MergeTest, ATornFileGivesItsWholeRecords) {
  write("a", answer_of("0") + "{\"custom_id\":\"1\",\"te");
  input(row_of("0") + row_of("1"));
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("0"));
  EXPECT_THAT(said_.str(), AllOf(HasSubstr("a ends within a record"), HasSubstr("no record: 1;")));
  const std::string coded = encoded(Coding::gzip, answer_of("0"));
  write("b", coded.substr(0, coded.size() - 20));
  arguments_.overwrite = true;
  EXPECT_EQ(run(), ExitStatus::rows_failed);
  EXPECT_EQ(merged(), answer_of("0"));
}

TEST_F(MergeTest, LongRecords) {
  const std::string huge(300'000, 'h');
  write("a", answer_of("1", huge) + answer_of("0", huge + huge) + answer_of("2"));
  input(row_of("0") + row_of("1") + row_of("2"));
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(merged(), answer_of("0", huge + huge) + answer_of("1", huge) + answer_of("2"));
}

TEST_F(MergeTest, WhatCannotBeMergedIsRefusedAndNothingIsWritten) {
  const auto good = folder_.write("good", answer_of("0")).string();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"missing", ""}, {"text", "hello\n"}, {"list", "[1]\n"}, {"bad.gz", "\x1F\x8B\x08nonsense"}};
  for (const auto& [name, bytes] : cases) {
    const auto path = (folder_.path() / name).string();
    if (!bytes.empty()) folder_.write(name, bytes);
    arguments_.files = {good, path};
    EXPECT_THAT(refusal<InputError>(), HasSubstr(path)) << name;
  }
  arguments_.files = {good, arguments_.output};
  EXPECT_THAT(refusal<ConfigError>(), HasSubstr("is the output and one of the files"));
  arguments_.files = {good};
  arguments_.input = "/dev/null";
  EXPECT_THAT(refusal<InputError>(), HasSubstr("must be a file"));
  arguments_.input.clear();
  const int writing = ::open(good.c_str(), O_RDWR);
  ASSERT_EQ(::flock(writing, LOCK_EX), 0);
  EXPECT_THAT(refusal<ConfigError>(), HasSubstr("a run is writing to " + good));
  ::close(writing);
  EXPECT_EQ(names_in_folder().size(), 4U);
  folder_.write("out.jsonl", "mine\n");
  EXPECT_THAT(refusal<ConfigError>(), HasSubstr("--overwrite"));
  EXPECT_EQ(merged(), "mine\n");
  arguments_.overwrite = true;
  EXPECT_EQ(run(), ExitStatus::done);
  EXPECT_EQ(merged(), answer_of("0"));
}

}  // namespace
}  // namespace sluice::launcher
