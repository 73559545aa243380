#include "launcher/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "kernels/device/error.h"
#include "launcher/tokenizer/utf8.h"
#include "tests/support/model_folder.h"
#include "tests/support/opt_tokenizer.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using nlohmann::json;
using support::byte_id;
using support::kFirstMerge;
using support::small_tokenizer;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::string random_text(std::mt19937& random) {
  constexpr char32_t kEnds[] = {0x80, 0x250, 0x3000, 0xD800, 0x20000, 0x110000};
  std::string text;
  for (auto i = random() % 40; i > 0; --i) {
    const auto character = static_cast<char32_t>(random() % kEnds[random() % 6]);
    if (character < 0xD800 || character >= 0xE000) append_character(text, character);
    if (random() % 4 == 0) text += random() % 2 == 0 ? " " : "</s>";
  }
  return text;
}

TEST(Tokenizer, BosComesFirstAndSpecialTokensAreFoundAnywhere) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}, {" ", "a"}});
  EXPECT_EQ(tokenizer.encode(""), (Ids{2}));
  EXPECT_EQ(tokenizer.encode("", false), Ids{});
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{2, kFirstMerge}));
  EXPECT_EQ(tokenizer.encode("a</s>b<pad>", false), (Ids{byte_id('a'), 2, byte_id('b'), 1}));
  EXPECT_EQ(tokenizer.encode("</s></s>", false), (Ids{2, 2}));
  EXPECT_EQ(tokenizer.encode("<s>", false), (Ids{byte_id('<'), byte_id('s'), byte_id('>')}));
  EXPECT_EQ(tokenizer.encode("< </s", false).size(), 5U);
}

TEST(Tokenizer, WordsDoNotMergeAcrossEachOther) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}, {"b", " "}});
  EXPECT_EQ(tokenizer.encode("b b", false), (Ids{byte_id('b'), byte_id(' '), byte_id('b')}));
  EXPECT_EQ(tokenizer.encode("ab ab ab", false),
            (Ids{kFirstMerge, byte_id(' '), kFirstMerge, byte_id(' '), kFirstMerge}));
}

TEST(Tokenizer, TheLongestSpecialTokenWins) {
  Vocabulary vocabulary = support::small_vocabulary();
  add_added_token({.text = "<pad><pad>", .id = vocabulary.size}, "test", vocabulary);
  vocabulary.table_size = vocabulary.size;
  const Tokenizer tokenizer(std::move(vocabulary));
  EXPECT_EQ(tokenizer.encode("<pad><pad><pad>", false), (Ids{260, 1}));
}

TEST(Tokenizer, BrokenTextIsReadWithReplacements) {
  const Tokenizer tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.encode("a\xFF\xE2\x82z"), tokenizer.encode("a\uFFFD\uFFFDz"));
}

TEST(Tokenizer, DecodesBytesAndChecksIds) {
  const Tokenizer tokenizer = small_tokenizer({}, 270);
  EXPECT_EQ(tokenizer.size(), 260);
  EXPECT_EQ(tokenizer.decode(Ids{}, false), "");
  EXPECT_EQ(tokenizer.decode(Ids{2, byte_id('a'), 1}, false), "</s>a<pad>");
  EXPECT_EQ(tokenizer.decode(Ids{2, byte_id('a'), 1}, true), "a");
  EXPECT_EQ(tokenizer.decode(Ids{byte_id('\xE2'), 2, byte_id('\x82')}, true), "\uFFFD");
  EXPECT_EQ(tokenizer.decode(Ids{byte_id('\xE2'), 2, byte_id('\x82'), byte_id('\xAC')}, true), "€");
  EXPECT_EQ(tokenizer.decode(Ids{260, 269}, false), "");
  EXPECT_EQ(tokenizer.token_bytes(byte_id('\xE2')), "\xE2");
  EXPECT_THROW(tokenizer.decode(Ids{270}, false), InputError);
  EXPECT_THROW(tokenizer.decode(Ids{-1}, false), InputError);
  EXPECT_THROW(tokenizer.token_bytes(INT32_MAX), InputError);
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}, {" ", "a"}});
  const std::string text(20000, 'a');
  const Ids expected = tokenizer.encode(text + " ab ab");
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back([&] { result = tokenizer.encode(text + " ab ab"); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

TEST(Tokenizer, RandomUnicodeComesBack) {
  const Tokenizer tokenizer = small_tokenizer({{"a", "b"}, {" ", "a"}, {"\xC3", "\xA9"}});
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text), false), "</s>" + text);
  }
}

class OptTokenizer : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = support::opt_tokenizer_folder();
    if (folder_.empty()) GTEST_SKIP() << support::kNoOptTokenizer;
  }
  std::filesystem::path folder_;
};

TEST_F(OptTokenizer, AgreesWithHuggingFaceOnEveryCase) {
  const Tokenizer tokenizer = Tokenizer::open(folder_);
  EXPECT_EQ(tokenizer.size(), 50265);
  EXPECT_EQ(tokenizer.bos(), 2);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.pad(), 1);
  const json file = read_json(folder_ / "cases.json");
  ASSERT_GE(file.at("cases").size(), 100U);
  for (const json& one : file.at("cases")) {
    const auto ids = one.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer.encode(one.at("text").get<std::string>()), ids) << one.at("id");
    EXPECT_EQ(tokenizer.decode(ids, false), one.at("decoded")) << one.at("id");
    EXPECT_EQ(tokenizer.decode(ids, true), one.at("decoded_skip_special")) << one.at("id");
  }
  for (const json& one : file.at("decode_cases")) {
    const auto ids = one.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer.decode(ids, false), one.at("decoded")) << one.dump();
    EXPECT_EQ(tokenizer.decode(ids, true), one.at("decoded_skip_special")) << one.dump();
  }
}

TEST_F(OptTokenizer, LongTextsAreAsFastAsShortOnes) {
  const Tokenizer tokenizer = Tokenizer::open(folder_);
  const std::string words[] = {std::string(1 << 20, 'x'), std::string(5 << 20, ' '),
                               std::string(1 << 20, '\n'), std::string(1 << 19, '7')};
  for (const std::string& word : words) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(word), true), word);
  }
  std::string text;
  for (int i = 0; text.size() < (10U << 20); ++i) {
    text += "The quick brown fox number " + std::to_string(i) + " doesn't jump; caf\xC3\xA9!\n";
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), true), text);
}

TEST(DemoTokenizer, AgreesWithHuggingFaceOnEveryCase) {
  const std::filesystem::path source = SLUICE_SOURCE_DIR;
  const std::filesystem::path cases = source / "tests/data/demo-tokenizer-cases.json";
  if (!std::filesystem::exists(cases)) GTEST_SKIP() << cases << " is not there yet";
  const Tokenizer tokenizer = Tokenizer::open(source / "models/demo");
  const json file = read_json(cases);
  ASSERT_GE(file.size(), 50U);
  for (const json& one : file) {
    const auto ids = one.at("ids").get<Ids>();
    EXPECT_EQ(tokenizer.encode(one.at("text").get<std::string>()), ids) << one.at("text");
    EXPECT_EQ(tokenizer.decode(ids, false), one.at("decoded")) << one.at("text");
  }
}

/// Vocabularies of one base with other steps, other added tokens, missing bytes or other merges.
TEST(ByteLevelTokenizers, AgreeWithHuggingFaceOnEveryCase) {
  const std::filesystem::path source = SLUICE_SOURCE_DIR;
  const json file = read_json(source / "tests/data/byte-level-tokenizers.json");
  ASSERT_GE(file.at("tokenizers").size(), 15U);
  for (const json& one : file.at("tokenizers")) {
    json whole = file.at("base");
    whole.merge_patch(one.at("changes"));
    // A patch would keep the tokens of the base.
    if (one.at("changes").contains("model") && one.at("changes").at("model").contains("vocab")) {
      whole["model"]["vocab"] = one.at("changes").at("model").at("vocab");
    }
    const support::ModelFolder folder;
    folder.write("tokenizer.json", whole.dump());
    const Tokenizer tokenizer = Tokenizer::open(folder.path());
    for (const json& each : one.at("cases")) {
      const auto where = one.at("name").get<std::string>() + ": " + each.at("text").dump();
      const auto ids = each.at("ids").get<Ids>();
      EXPECT_EQ(tokenizer.encode(each.at("text").get<std::string>()), ids) << where;
      EXPECT_EQ(tokenizer.decode(ids, false), each.at("decoded")) << where;
      EXPECT_EQ(tokenizer.decode(ids, true), each.at("decoded_skip_special")) << where;
    }
  }
}

}  // namespace
}  // namespace sluice::launcher
