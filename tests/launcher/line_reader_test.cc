#include "launcher/jobs/line_reader.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using Lines = std::vector<std::string>;

Lines read(const std::string& bytes) {
  std::istringstream in(bytes);
  LineReader reader(in, "test");
  Lines lines;
  for (std::string line; reader.next(line);) lines.push_back(line);
  return lines;
}

TEST(LineReader, LineEndsOfEitherKind) {
  EXPECT_EQ(read(""), Lines{});
  EXPECT_EQ(read("a"), (Lines{"a"}));
  EXPECT_EQ(read("a\nb\r\n\nc\r"), (Lines{"a", "b", "", "c"}));
  EXPECT_EQ(read("a\rb\n"), (Lines{"a\rb"}));
  EXPECT_EQ(read(std::string("a\0b\n", 4)), (Lines{std::string("a\0b", 3)}));
}

TEST(LineReader, AByteOrderMarkIsLeftOutOnceInFront) {
  EXPECT_EQ(read("\xEF\xBB\xBF"
                 "a\n\xEF\xBB\xBF"
                 "b"),
            (Lines{"a",
                   "\xEF\xBB\xBF"
                   "b"}));
}

TEST(LineReader, TellsWhereItIs) {
  std::istringstream in("ab\r\ncd");
  LineReader reader(in, "test");
  std::string line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(reader.number(), 1);
  EXPECT_EQ(reader.bytes(), 4U);
  EXPECT_FALSE(reader.unfinished());
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(reader.number(), 2);
  EXPECT_TRUE(reader.unfinished());
  EXPECT_FALSE(reader.next(line));
}

TEST(LineReader, ALineThatIsTooLongIsCutAndTheNextIsRight) {
  std::istringstream in("abcdef\nabc\nabcd");
  LineReader reader(in, "test", 3);
  std::string line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_TRUE(reader.too_long());
  EXPECT_EQ(line, "abc");
  ASSERT_TRUE(reader.next(line));
  EXPECT_FALSE(reader.too_long());
  EXPECT_EQ(line, "abc");
  ASSERT_TRUE(reader.next(line));
  EXPECT_TRUE(reader.too_long());
}

TEST(LineReader, AFileThatCannotBeReadIsNotAnEmptyOne) {
  std::ifstream file("/proc/self/mem", std::ios::binary);  // opens; reading at 0 is EIO
  ASSERT_TRUE(file);
  LineReader reader(file, "/proc/self/mem");
  std::string line;
  EXPECT_THROW(reader.next(line), IoError);
}

}  // namespace
}  // namespace sluice::launcher
