// Hostile tokenizer files and texts: refused by name, or done in time and memory that grow with
// their size only.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/device/error.h"
#include "launcher/tokenizer/stream_decoder.h"
#include "launcher/tokenizer/tokenizer.h"
#include "launcher/tokenizer/tokenizer_facts.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using support::ModelFolder;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::filesystem::path trained(const std::string& name) {
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/tokenizers" / name;
}

json read_file(const std::string& name) {
  std::ifstream file(trained(name) / "tokenizer.json");
  return json::parse(file);
}

/// A tokenizer with some members of its file changed.
Tokenizer changed(const std::string& name, const json& changes) {
  json file = read_file(name);
  for (const auto& [pointer, value] : changes.items()) file[json::json_pointer(pointer)] = value;
  const ModelFolder folder;
  folder.write("tokenizer.json", file.dump());
  return Tokenizer::open(folder.path());
}

json added_token(std::int64_t id, const std::string& text) {
  return {{"id", id}, {"content", text}, {"special", false}, {"rstrip", true}};
}

TEST(TokenizerBounds, IdsThatCannotBeAreRefused) {
  EXPECT_THAT(
      [] {
        changed("gpt2-style", {{"/model/vocab/a", 5}});
      },
      ThrowsMessage<InputError>(HasSubstr("two tokens")));
  EXPECT_THAT(
      [] {
        changed("gpt2-style", {{"/model/vocab/a", 1 << 30}});
      },
      ThrowsMessage<InputError>(HasSubstr("ids go from 0")));
  EXPECT_THAT(
      [] {
        changed("gpt2-style", {{"/model/vocab/a", -1}});
      },
      ThrowsMessage<InputError>(HasSubstr("-1")));
}

// Without a decoder texts have blanks between tokens, and an id of no token is none.
TEST(TokenizerBounds, AnIdWithoutATokenDoesNotBeginAText) {
  const Tokenizer tokenizer =
      changed("gpt2-style",
              {{"/model/vocab/a", 5000}, {"/decoder", nullptr}, {"/model/merges", json::array()}});
  const std::vector<std::int32_t> ids = {4000, 5000, 4000, 5000};
  EXPECT_EQ(tokenizer.decode(ids, false), "a a");
  StreamDecoder stream(tokenizer, {}, false);
  std::string given;
  for (const std::int32_t id : ids) given += stream.push(id);
  EXPECT_EQ(given + stream.finish(), "a a");
}

TEST(TokenizerBounds, NestingIsBounded) {
  json step = {{"type", "NFC"}};
  for (int i = 0; i < 80; ++i) {
    step = {{"type", "Sequence"}, {"normalizers", json::array({step})}};
  }
  EXPECT_THAT(
      [&] {
        changed("gpt2-style", {{"/normalizer", step}});
      },
      ThrowsMessage<InputError>(HasSubstr("nested deeper")));
}

TEST(TokenizerBounds, APatternThatBacktracksWithoutEndIsRefusedAtTheText) {
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", "(x|xx)+$"}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Tokenizer tokenizer = changed("llama2-style", {{"/pre_tokenizer", split}});
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a text of x and y"), true), "a text of x and y");
  EXPECT_THAT([&] { tokenizer.encode(std::string(100, 'x') + "y"); },
              ThrowsMessage<InputError>(HasSubstr("(x|xx)+$")));
}

TEST(TokenizerBounds, ManyAddedTokensCostNoMoreThanTheirNumber) {
  json tokens = json::array();
  for (int i = 0; i < 100000; ++i) {
    std::string text = "<";
    text += std::to_string(i);
    tokens.push_back(added_token(900 + i, text + ">"));
  }
  const Tokenizer tokenizer = changed("gpt2-style", {{"/added_tokens", tokens}});
  EXPECT_EQ(tokenizer.size(), 100900);
  EXPECT_EQ(tokenizer.encode("<99999> <7>"), (std::vector<std::int32_t>{100899, 907}));
}

TEST(TokenizerBounds, AddedTokensThatTakeBlanksAreLinear) {
  const Tokenizer tokenizer =
      changed("gpt2-style", {{"/added_tokens", json::array({added_token(900, " ")})}});
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, ' ')).size(), 1U << 20);
  EXPECT_THAT(
      [] {
        changed("gpt2-style",
                {{"/added_tokens", json::array({added_token(900, std::string(5000, 'a'))})}});
      },
      ThrowsMessage<InputError>(AllOf(HasSubstr("5000"), HasSubstr("added token"))));
}

TEST(TokenizerBounds, AnAddedTokenThatTheNormalizerRemovesIsRefused) {
  json token = added_token(900, "  ");
  token["normalized"] = true;
  EXPECT_THAT(
      [&] {
        changed("gpt2-style",
                {{"/added_tokens", json::array({token})}, {"/normalizer", {{"type", "Strip"}}}});
      },
      ThrowsMessage<InputError>(HasSubstr("normalizer")));
}

class LongText : public testing::TestWithParam<const char*> {};

TEST_P(LongText, WordsAndBlanksOfMegabytes) {
  const Tokenizer tokenizer = Tokenizer::open(trained(GetParam()));
  for (const char* unit : {"x", " ", "\n", "7", "e", "\u4E2D", "ab "}) {
    std::string text = "a";
    while (text.size() < (1U << 20)) text += unit;
    text += ".";
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), true), text) << '"' << unit << '"';
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, LongText,
                         testing::Values("gpt2-style", "llama3-style", "deepseek-style",
                                         "falcon-style", "o200k-style", "bloom-style",
                                         "llama2-style", "gemma-style", "unigram-bytes-style"),
                         [](const auto& one) {
                           std::string name = one.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(ByteTokens, AStopTextIsFoundBeforeTheRunEnds) {
  const Tokenizer tokenizer = Tokenizer::open(trained("llama2-style"));
  const auto byte = [&](const char* name) { return tokenizer.vocabulary().find(name); };
  StreamDecoder decoder(tokenizer, {"\n"}, true);
  EXPECT_EQ(decoder.push(tokenizer.vocabulary().find("a")), "a");
  EXPECT_EQ(decoder.push(byte("<0x0A>")), "");
  EXPECT_TRUE(decoder.stopped());
  EXPECT_EQ(decoder.finish(), "");

  StreamDecoder broken(tokenizer, {}, true);
  EXPECT_EQ(broken.push(byte("<0x41>")) + broken.push(byte("<0xFF>")), "");
  EXPECT_EQ(broken.push(tokenizer.vocabulary().find("a")), "\uFFFD\uFFFDa");
}

TEST(ByteTokens, TheBlankInFrontIsLeftOutWhereTheTextBegins) {
  const Tokenizer tokenizer = Tokenizer::open(trained("llama2-style"));
  const std::vector<std::int32_t> ids = tokenizer.encode("a e", true);
  ASSERT_GE(ids.size(), 3U);
  const std::vector<std::int32_t> prompt = {ids[0]};  // <s>
  StreamDecoder begins(tokenizer, {}, true, prompt);
  EXPECT_EQ(begins.push(tokenizer.vocabulary().find("\u2581")), "");
  EXPECT_EQ(begins.push(tokenizer.vocabulary().find("\u2581")), " ");
  StreamDecoder goes_on(tokenizer, {}, true, ids);
  EXPECT_EQ(goes_on.push(tokenizer.vocabulary().find("\u2581")), " ");
}

TEST(TokenizerFacts, SayWhatWasRead) {
  const Tokenizer llama = Tokenizer::open(trained("llama2-style"));
  EXPECT_EQ(tokenizer_line(llama),
            "BPE over characters with byte fallback of 900 tokens, from tokenizer.json");
  const std::string text = explain_tokenizer(Tokenizer::open(trained("qwen2-style")));
  for (const char* part : {"byte-level BPE", "905 tokens", "644 merges", "tokenizer.json", "NFC",
                           R"(\p{N})", "<|im_start|>", "special", "nothing in front"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

}  // namespace
}  // namespace sluice::launcher
