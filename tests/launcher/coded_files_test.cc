// Inputs and outputs in gzip and zstd. What they look like to other programs is asked of those in
// tests/pipeline/coded_rows_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <istream>

#include "kernels/device/error.h"
#include "launcher/jobs/coding.h"
#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/input_file.h"
#include "launcher/jobs/input_lines.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using support::ModelFolder;
using testing::HasSubstr;

std::string record_of(int i) {
  return "{\"custom_id\":\"row " + std::to_string(i) + "\",\"text\":\"" +
         std::string(static_cast<std::size_t>(i * 37 % 50), static_cast<char>('a' + i % 26)) +
         "\"}";
}

std::string encoded(Coding coding, std::string_view plain) {
  std::string coded;
  const auto packer = make_packer(coding);
  packer->add(plain, false, coded);
  packer->finish(coded);
  return coded;
}

class CodedFiles : public testing::TestWithParam<Coding> {
 protected:
  std::string name(const std::string& inner) const {
    return inner + (GetParam() == Coding::gzip ? ".gz" : ".zst");
  }
  std::string read_plain(const std::string& path) const {
    InputFile file(path);
    std::istream in(&file);
    LineReader lines(in, path);
    std::string all;
    for (std::string line; lines.next(line);) all += line + (lines.unfinished() ? "" : "\n");
    return all;
  }
  std::string refusal_of(const std::string& path) const {
    try {
      read_plain(path);
    } catch (const InputError& problem) {
      return problem.what();
    }
    return "";
  }

  ModelFolder folder_;
};

TEST_P(CodedFiles, AreToldByTheirFirstBytesWhateverTheirName) {
  std::string plain;
  for (int i = 0; i < 5000; ++i) plain += record_of(i) + "\n";
  const std::string coded = encoded(GetParam(), plain);
  EXPECT_LT(coded.size(), plain.size() / 2);
  for (std::size_t size = 1; size < 4; ++size) {
    const auto told = coding_of_bytes(std::string_view(coded).substr(0, size));
    EXPECT_TRUE(!told || *told == GetParam()) << size;
  }
  EXPECT_EQ(coding_of_bytes(coded), GetParam());
  EXPECT_EQ(coding_of_bytes("{\"prompt\""), Coding::none);
  EXPECT_EQ(coding_of_bytes("(\n"), Coding::none);
  EXPECT_EQ(coding_of_bytes("P*M\n"), Coding::none);
  EXPECT_EQ(read_plain(folder_.write("rows.jsonl", coded)), plain);
}

TEST_P(CodedFiles, MembersFollowEachOther) {
  const std::string coded = encoded(GetParam(), "a\nb\n") + encoded(GetParam(), "") +
                            encoded(GetParam(), "c\n") + encoded(GetParam(), "d");
  EXPECT_EQ(read_plain(folder_.write("rows", coded)), "a\nb\nc\nd");
}

TEST_P(CodedFiles, AnInputIsReadAgain) {
  const auto path = folder_.write("rows", encoded(GetParam(), "a\nb\n"));
  InputFile file(path);
  for (int i = 0; i < 2; ++i) {
    std::istream in(&file);
    std::string line;
    EXPECT_TRUE(std::getline(in, line));
    EXPECT_EQ(line, "a");
    EXPECT_EQ(file.coding(), GetParam());
    file.rewind();
  }
}

TEST_P(CodedFiles, TheInnerNameSaysWhatTheLinesAre) {
  for (const auto& [inner, is_json] :
       {std::pair{"rows.jsonl", true}, {"rows.txt", false}, {"rows.json", true}}) {
    const std::string path = folder_.write(name(inner), encoded(GetParam(), "\"a\"\n"));
    InputFile file(path);
    std::istream in(&file);
    InputLines lines(in, path);
    InputLine line;
    ASSERT_TRUE(lines.next(line));
    EXPECT_EQ(line.is_json, is_json) << inner;
  }
}

TEST_P(CodedFiles, AnInputThatEndsTooEarlyIsRefused) {
  const std::string coded = encoded(GetParam(), "a line\nanother line\n");
  for (std::size_t size = 4; size < coded.size(); ++size) {
    const std::string path = folder_.write("rows", coded.substr(0, size));
    EXPECT_THAT(refusal_of(path), testing::AllOf(HasSubstr(path), HasSubstr("ends too early")))
        << size;
  }
}

TEST_P(CodedFiles, ADamagedInputIsRefusedOrReadsTheSame) {
  const std::string plain = record_of(1) + "\n" + record_of(2) + "\n" + record_of(3) + "\n";
  const std::string coded = encoded(GetParam(), plain);
  int refused = 0;
  for (std::size_t at = 4; at < coded.size(); ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string damaged = coded;
      damaged[at] = static_cast<char>(damaged[at] ^ 1 << bit);
      const std::string path = folder_.write("rows", damaged);
      const std::string refusal = refusal_of(path);
      if (refusal.empty()) {
        EXPECT_EQ(read_plain(path), plain) << at << ", bit " << bit;
      } else {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(coded.size()));
}

TEST_P(CodedFiles, EachRecordCanBeReadAtOnce) {
  const auto path = folder_.path() / name("out.jsonl");
  CompletionWriter writer(path, Existing::refuse);
  std::string plain;
  for (int i = 0; i < 20; ++i) {
    writer.append(record_of(i));
    plain += record_of(i) + "\n";
    const std::string coded = folder_.read(name("out.jsonl"));
    const auto unpacker = make_unpacker(GetParam());
    std::vector<char> room(1U << 16);
    std::string read;
    std::string_view rest = coded;
    for (Unpacker::Step step = {1, 0}; step.read + step.written > 0;) {
      step = unpacker->step(rest, room);
      rest.remove_prefix(step.read);
      read.append(room.data(), step.written);
    }
    EXPECT_EQ(read, plain);
  }
  writer.close();
  EXPECT_EQ(read_plain(path), plain);
}

// Killed at any byte: whole records stay, the torn one is written again, other programs can read
// all of it.
TEST_P(CodedFiles, ATornOutputGoesOnAtEveryByte) {
  constexpr int kRecords = 6;
  std::string coded;
  std::vector<std::size_t> ends = {0};  // of the records in the file
  std::string plain;
  {
    CompletionWriter writer(folder_.path() / name("whole"), Existing::refuse);
    for (int i = 0; i < kRecords; ++i) {
      writer.append(record_of(i));
      ends.push_back(folder_.read(name("whole")).size());
      plain += record_of(i) + "\n";
    }
    writer.close();
    coded = folder_.read(name("whole"));
  }
  for (std::size_t size = 0; size <= coded.size(); ++size) {
    const auto path = folder_.write(name("out"), coded.substr(0, size));
    const auto whole =
        std::upper_bound(ends.begin(), ends.end(), size) - ends.begin() - 1;  // records
    CompletionWriter writer(path, Existing::resume);
    EXPECT_EQ(folder_.read(name("out")).size(), size) << "cut before there was anything to write";
    const auto kept = writer.finished().records();
    ASSERT_GE(kept, whole) << size;
    ASSERT_LE(kept, whole + 1) << size;  // one may be there before the last bytes of its block
    for (auto i = kept; i < kRecords; ++i) writer.append(record_of(static_cast<int>(i)));
    writer.close();
    ASSERT_EQ(read_plain(path), plain) << size;
  }
}

// The end of a torn member is written, and then the run is killed again: nothing of it is lost.
TEST_P(CodedFiles, AnOutputIsKilledAgainAndAgain) {
  const auto path = folder_.path() / name("out");
  std::string plain;
  for (int i = 0; i < 12; ++i) {
    CompletionWriter writer(path, Existing::resume);
    ASSERT_EQ(writer.finished().records(), i);
    writer.append(record_of(i));
    plain += record_of(i) + "\n";
  }  // without close(), as killed
  CompletionWriter(path, Existing::resume).close();
  EXPECT_EQ(read_plain(path), plain);
}

TEST_P(CodedFiles, AnOutputWithoutRecordsIsWhole) {
  const auto path = folder_.path() / name("out");
  CompletionWriter(path, Existing::refuse).close();
  EXPECT_GT(folder_.read(name("out")).size(), 0U);
  EXPECT_EQ(read_plain(path), "");
  CompletionWriter writer(path, Existing::overwrite);
  writer.append(record_of(1));
  writer.close();
  EXPECT_EQ(read_plain(path), record_of(1) + "\n");
}

TEST_P(CodedFiles, AnOutputThatSomebodyElseCompressedIsTakenWhole) {
  std::string plain;
  for (int i = 0; i < 20000; ++i) plain += record_of(i) + "\n";
  const std::string coded = encoded(GetParam(), plain);
  const auto path = folder_.write(name("out"), coded);
  {
    CompletionWriter writer(path, Existing::resume);
    EXPECT_EQ(writer.finished().records(), 20000);
    writer.append(record_of(20000));
    writer.close();
  }
  EXPECT_EQ(read_plain(path), plain + record_of(20000) + "\n");
  folder_.write(name("out"), coded.substr(0, coded.size() / 2));
  try {
    CompletionWriter writer(path, Existing::resume);
    FAIL() << "half of the answers would be made again";
  } catch (const InputError& problem) {
    EXPECT_THAT(problem.what(), testing::AllOf(HasSubstr(path.string()), HasSubstr("cut off")));
  }
  EXPECT_EQ(folder_.read(name("out")).size(), coded.size() / 2);
}

TEST_P(CodedFiles, AnOutputThatIsNotWhatItsNameSaysIsRefused) {
  const auto path = folder_.write(name("out"), record_of(1) + "\n");
  try {
    CompletionWriter writer(path, Existing::resume);
    FAIL();
  } catch (const InputError& problem) {
    EXPECT_THAT(problem.what(), testing::AllOf(HasSubstr(path.string()), HasSubstr("--overwrite")));
  }
}

INSTANTIATE_TEST_SUITE_P(Both, CodedFiles, testing::Values(Coding::gzip, Coding::zstd),
                         [](const auto& coding) { return std::string(name_of(coding.param)); });

}  // namespace
}  // namespace sluice::launcher
