#include "launcher/chat/tokenize_command.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

struct Outcome {
  std::string out;
  std::string errors;
  ExitStatus status = ExitStatus::done;
};

Outcome run(const TokenizeOptions& options, const std::string& input) {
  const Tokenizer tokenizer = support::small_tokenizer({{"a", "b"}});
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream errors;
  const ExitStatus status = tokenize_lines(tokenizer, options, in, out, errors);
  return {out.str(), errors.str(), status};
}

TEST(TokenizeCommand, LinesToIdsAndBack) {
  const Outcome ids = run({}, "ab\n\nabab");
  EXPECT_EQ(ids.out, "2 260\n2\n2 260 260\n");
  EXPECT_EQ(ids.status, ExitStatus::done);
  EXPECT_EQ(run({.decode = true}, ids.out).out, "</s>ab\n</s>\n</s>abab\n");
}

TEST(TokenizeCommand, JsonLinesToIdsAndBack) {
  const Outcome ids = run({.jsonl = true}, "{\"text\": \"ab\\nab\"}\r\n{\"text\": \"\"}\n");
  EXPECT_EQ(ids.out, "{\"ids\":[2,260,14,260]}\n{\"ids\":[2]}\n");
  EXPECT_EQ(run({.jsonl = true, .decode = true}, ids.out).out,
            "{\"text\":\"</s>ab\\nab\"}\n{\"text\":\"</s>\"}\n");
}

TEST(TokenizeCommand, BadLinesAreReportedAndTheOthersGoOn) {
  const Outcome text = run({.jsonl = true}, "{\"text\": 3}\n{\"text\": \"a\"}\n{\n[]\n{\"x\":1}\n");
  EXPECT_EQ(text.out, "{\"ids\":[2,101]}\n");
  EXPECT_EQ(text.status, ExitStatus::rows_failed);
  for (const char* part : {"line 1: ", "line 3: ", "line 4: ", "line 5: "}) {
    EXPECT_NE(text.errors.find(part), std::string::npos) << text.errors;
  }
  const Outcome ids = run({.decode = true}, "101\n101 x\n999999\n-1\n1.5\n99999999999\n\n");
  EXPECT_EQ(ids.out, "a\n\n");
  EXPECT_EQ(ids.status, ExitStatus::rows_failed);
  for (const char* part : {"line 2: ", "line 3: ", "line 4: ", "line 5: ", "line 6: "}) {
    EXPECT_NE(ids.errors.find(part), std::string::npos) << ids.errors;
  }
  const Outcome lists = run({.jsonl = true, .decode = true},
                            "{\"ids\":[-1]}\n{\"ids\":[1.5]}\n{\"ids\":3}\n"
                            "{\"ids\":[99999999999]}\n{\"ids\":[]}\n");
  EXPECT_EQ(lists.out, "{\"text\":\"\"}\n");
  EXPECT_EQ(lists.status, ExitStatus::rows_failed);
}

TEST(TokenizeCommand, AnOutputThatTakesNoMoreIsAnError) {
  const Tokenizer tokenizer = support::small_tokenizer();
  std::istringstream in("a\n");
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  std::ostringstream errors;
  EXPECT_THROW(tokenize_lines(tokenizer, {}, in, out, errors), IoError);
}

}  // namespace
}  // namespace sluice::launcher
