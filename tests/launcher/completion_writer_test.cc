#include "launcher/jobs/completion_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "kernels/device/error.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using support::ModelFolder;
using testing::HasSubstr;

const std::string kFirst = R"({"custom_id":"a","text":"1"})";
const std::string kSecond = R"({"custom_id":"b","text":"2"})";

TEST(CompletionWriter, EachRecordIsInTheFileAtOnce) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::refuse);
  EXPECT_TRUE(writer.locked());
  writer.append(kFirst);
  EXPECT_EQ(folder.read("out.jsonl"), kFirst + "\n");
  writer.append(kSecond);
  EXPECT_EQ(folder.read("out.jsonl"), kFirst + "\n" + kSecond + "\n");
  writer.close();
  writer.close();
}

TEST(CompletionWriter, AnExistingFileIsRefusedAndNotTouched) {
  const ModelFolder folder;
  const auto path = folder.write("out.jsonl", "mine\n");
  try {
    CompletionWriter writer(path, Existing::refuse);
    FAIL();
  } catch (const ConfigError& problem) {
    EXPECT_THAT(problem.what(), HasSubstr("--resume"));
    EXPECT_THAT(problem.what(), HasSubstr("--overwrite"));
  }
  EXPECT_EQ(folder.read("out.jsonl"), "mine\n");
}

TEST(CompletionWriter, OverwriteBeginsAnew) {
  const ModelFolder folder;
  const auto path = folder.write("out.jsonl", "something that was longer than what comes now\n");
  CompletionWriter writer(path, Existing::overwrite);
  writer.append(kFirst);
  EXPECT_EQ(folder.read("out.jsonl"), kFirst + "\n");
  EXPECT_EQ(writer.finished().records(), 0);
}

TEST(CompletionWriter, ResumeKeepsWholeLinesAndCutsATornOne) {
  const std::string whole = kFirst + "\n" + kSecond + "\n";
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    const ModelFolder folder;
    const auto path = folder.write("out.jsonl", whole.substr(0, cut));
    const std::size_t lines = cut == whole.size() ? 2 : cut > kFirst.size() ? 1 : 0;
    CompletionWriter writer(path, Existing::resume);
    FinishedRows finished = writer.take_finished();
    const auto has = [&](const char* id) {
      return finished.ids().meet(key_of_id(id), 1, false).met == RowIds::Met::answered;
    };
    EXPECT_EQ(has("a"), lines > 0) << cut;
    EXPECT_EQ(has("b"), lines > 1) << cut;
    writer.append("{}");
    const std::string kept = lines == 2 ? whole : lines == 1 ? kFirst + "\n" : "";
    EXPECT_EQ(folder.read("out.jsonl"), kept + "{}\n") << cut;
  }
}

TEST(CompletionWriter, ResumeOfNothingIsABeginning) {
  const ModelFolder folder;
  CompletionWriter writer(folder.path() / "out.jsonl", Existing::resume);
  writer.append(kFirst);
  EXPECT_EQ(folder.read("out.jsonl"), kFirst + "\n");
}

TEST(CompletionWriter, ResumeOfAForeignFileIsRefusedAndItStays) {
  const ModelFolder folder;
  const std::string bytes = kFirst + "\nmy diary\n" + kSecond;
  const auto path = folder.write("out.jsonl", bytes);
  try {
    CompletionWriter writer(path, Existing::resume);
    FAIL();
  } catch (const InputError& problem) {
    EXPECT_THAT(problem.what(), HasSubstr("line 2"));
  }
  EXPECT_EQ(folder.read("out.jsonl"), bytes);
}

TEST(CompletionWriter, ASecondWriterIsKeptAway) {
  const ModelFolder folder;
  const auto path = folder.path() / "out.jsonl";
  {
    CompletionWriter first(path, Existing::refuse);
    first.append(kFirst);
    EXPECT_THROW(CompletionWriter(path, Existing::resume), ConfigError);
    EXPECT_THROW(CompletionWriter(path, Existing::overwrite), ConfigError);
    EXPECT_EQ(folder.read("out.jsonl"), kFirst + "\n");
  }
  EXPECT_NO_THROW(CompletionWriter(path, Existing::resume));
}

TEST(CompletionWriter, FilesThatCannotBeMade) {
  const ModelFolder folder;
  EXPECT_THROW(CompletionWriter(folder.path() / "absent/out.jsonl", Existing::refuse), ConfigError);
  EXPECT_THROW(CompletionWriter(folder.path(), Existing::overwrite), ConfigError);
  EXPECT_THROW(CompletionWriter("/dev/null", Existing::resume), ConfigError);
}

TEST(CompletionWriter, AFullDeviceIsACapacityError) {
  CompletionWriter writer("/dev/full", Existing::refuse);
  EXPECT_THROW(writer.append(kFirst), CapacityError);
}

/// No file of this process may grow beyond `bytes` while this lives: a full disk without a disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_ = {};
  void (*handler_)(int);
};

TEST(CompletionWriter, AFullDiskLeavesWholeLinesOnlyAndResumes) {
  for (std::size_t room = 0; room < kSecond.size() + 1; ++room) {
    const ModelFolder folder;
    const auto path = folder.path() / "out.jsonl";
    {
      CompletionWriter writer(path, Existing::refuse);
      writer.append(kFirst);
      const FileSizeLimit limit(kFirst.size() + 1 + room);
      EXPECT_THROW(writer.append(kSecond), CapacityError);
    }
    ASSERT_EQ(folder.read("out.jsonl"), kFirst + "\n") << room;
    CompletionWriter again(path, Existing::resume);
    again.append(kSecond);
    ASSERT_EQ(folder.read("out.jsonl"), kFirst + "\n" + kSecond + "\n");
  }
}

TEST(CompletionWriter, StandardOutputIsAPlaceToo) {
  testing::internal::CaptureStdout();
  CompletionWriter writer = CompletionWriter::standard_output();
  writer.append(kFirst);
  writer.close();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), kFirst + "\n");
}

}  // namespace
}  // namespace sluice::launcher
