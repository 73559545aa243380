// Tokenizers in the shapes of the published ones against Hugging Face's answers: ids, texts,
// streams.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/tokenizer/stream_decoder.h"
#include "launcher/tokenizer/tokenizer.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

using Ids = std::vector<std::int32_t>;
using nlohmann::json;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::filesystem::path trained_folder() {
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/tokenizers";
}

/// Published vocabularies, which are not ours: $SLUICE_TOKENIZERS, or a folder beside the checkout.
std::filesystem::path published_folder() {
  const char* named = std::getenv("SLUICE_TOKENIZERS");
  if (named != nullptr) return named;
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "../shared/data/tokenizers-reference";
}

/// What a stream gives out: a prefix of the text at any time, whole characters only, and all of it
/// in the end.
void check_stream(const Tokenizer& tokenizer, const Ids& ids, const std::string& text,
                  const std::string& where) {
  for (const bool skip_special : {false, true}) {
    const std::string whole = skip_special ? tokenizer.decode(ids, true) : text;
    StreamDecoder decoder(tokenizer, {}, skip_special);
    std::string given;
    for (const std::int32_t id : ids) {
      const std::string more = decoder.push(id);
      ASSERT_TRUE(is_valid_utf8(more)) << where;
      given += more;
      ASSERT_TRUE(whole.starts_with(given)) << where << ": " << given;
    }
    ASSERT_EQ(given + decoder.finish(), whole) << where;
  }
}

/// Where Hugging Face's stream has given text out, ours has too, but for a run of byte tokens that
/// has not ended.
void check_pace(const Tokenizer& tokenizer, const Ids& ids, const json& stream,
                const std::string& where) {
  StreamDecoder decoder(tokenizer, {}, false);
  std::string theirs;
  std::string ours;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (stream[i].is_string()) theirs += stream[i].get<std::string>();
    ours += decoder.push(ids[i]);
    if (!tokenizer.is_byte(ids[i])) {
      ASSERT_TRUE(ours.starts_with(theirs)) << where << ": token " << i;
    }
  }
}

void check_case(const Tokenizer& tokenizer, const json& one, const std::string& name) {
  const std::string where = name + ", " + one.at("id").dump();
  const auto text = one.at("text").get<std::string>();
  const auto ids = one.at("ids").get<Ids>();
  EXPECT_EQ(tokenizer.encode(text), ids) << where;
  EXPECT_EQ(tokenizer.encode(text, false), one.value("ids_no_special", ids)) << where;
  if (!one.contains("decoded")) return;
  const auto decoded = one.at("decoded").get<std::string>();
  EXPECT_EQ(tokenizer.decode(ids, false), decoded) << where;
  EXPECT_EQ(tokenizer.decode(ids, true), one.value("decoded_skip_special", decoded)) << where;
  check_stream(tokenizer, ids, decoded, where);
}

void check_decode_case(const Tokenizer& tokenizer, const json& one, const std::string& name) {
  const std::string where = name + ", ids " + one.at("ids").dump();
  const auto ids = one.at("ids").get<Ids>();
  const auto decoded = one.at("decoded").get<std::string>();
  EXPECT_EQ(tokenizer.decode(ids, false), decoded) << where;
  EXPECT_EQ(tokenizer.decode(ids, true), one.value("decoded_skip_special", decoded)) << where;
  check_stream(tokenizer, ids, decoded, where);
  if (one.at("stream").is_array()) check_pace(tokenizer, ids, one.at("stream"), where);
}

void check_cases(const Tokenizer& tokenizer, const std::filesystem::path& folder,
                 const std::string& name) {
  const json file = read_json(folder / name / "cases.json");
  EXPECT_EQ(tokenizer.size(), file.at("vocab_size")) << name;
  ASSERT_GE(file.at("cases").size(), 100U) << name;
  ASSERT_GE(file.at("decode_cases").size(), 40U) << name;
  for (const json& one : file.at("cases")) check_case(tokenizer, one, name);
  for (const json& one : file.at("decode_cases")) check_decode_case(tokenizer, one, name);
}

void check_folder(const std::filesystem::path& folder, const std::string& name) {
  check_cases(Tokenizer::open(folder / name), folder, name);
}

class TrainedTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(TrainedTokenizer, AgreesWithHuggingFaceOnEveryCase) {
  check_folder(trained_folder(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Shapes, TrainedTokenizer,
                         testing::Values("bloom-style", "codegen-style", "deepseek-style",
                                         "falcon-style", "flags", "gemma-style", "gpt2-style",
                                         "llama2-style", "llama3-style", "mistral-v3-style",
                                         "neox-style", "o200k-style", "phi3-style", "qwen2-style",
                                         "starcoder-style", "unigram-bytes-style",
                                         "unigram-t5-style"),
                         [](const auto& one) {
                           std::string name = one.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

/// The same vocabularies as GGUF files, whose patterns have names and whose normalizers none.
TEST(GgufTokenizers, AgreeWithHuggingFaceOnEveryCase) {
  for (const char* name :
       {"gpt2-style", "llama3-style", "o200k-style", "qwen2-style", "starcoder-style"}) {
    const auto files = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/data/gguf";
    const std::filesystem::path file = files / (std::string(name) + ".gguf");
    EXPECT_TRUE(Tokenizer::has_files(file));
    check_cases(Tokenizer::open(file), trained_folder(), name);
  }
}

TEST(PublishedTokenizers, AgreeWithHuggingFaceOnEveryCase) {
  const std::filesystem::path folder = published_folder();
  if (!std::filesystem::exists(folder / "real-gpt2")) {
    GTEST_SKIP() << "the published vocabularies are not here: set SLUICE_TOKENIZERS to a folder "
                    "with real-gpt2, real-qwen2 and real-mistral-v1";
  }
  for (const char* name : {"real-gpt2", "real-qwen2", "real-mistral-v1"}) {
    check_folder(folder, name);
  }
}

}  // namespace
}  // namespace sluice::launcher
