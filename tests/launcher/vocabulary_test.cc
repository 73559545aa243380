#include "launcher/tokenizer/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/device/error.h"
#include "launcher/tokenizer/tokenizer.h"
#include "tests/support/model_folder.h"
#include "tests/support/small_tokenizer.h"

namespace sluice::launcher {
namespace {

using nlohmann::json;
using support::ModelFolder;
using testing::AllOf;
using testing::HasSubstr;
using testing::Property;

/// Files of the small vocabulary with the merges " "+"t" and "h"+"e".
void write_small(const ModelFolder& folder) {
  folder.write("vocab.json", support::small_token_ids({{" ", "t"}, {"h", "e"}}).dump());
  folder.write("merges.txt", "#version: 0.2\nĠ t\nh e\n");
}

void expect_refused(const ModelFolder& folder, std::initializer_list<const char*> parts) {
  try {
    Tokenizer::open(folder.path());
    ADD_FAILURE() << "was accepted";
  } catch (const InputError& problem) {
    for (const char* part : parts) EXPECT_THAT(problem.what(), HasSubstr(part));
  }
}

json small_tokenizer_json() {
  json merges = json::array({"Ġ t", json::array({"h", "e"})});
  return {{"model",
           {{"type", "BPE"},
            {"vocab", support::small_token_ids({{" ", "t"}, {"h", "e"}})},
            {"merges", merges},
            {"dropout", nullptr}}},
          {"normalizer", nullptr},
          {"added_tokens",
           json::array({{{"id", 2}, {"content", "</s>"}, {"special", true}},
                        {{"id", 262}, {"content", "[START_REF]"}, {"special", false}}})},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}}};
}

const std::string kTokens = "</s> the3</s>";
const std::vector<std::int32_t> kIds = {
    2, 2, support::kFirstMerge, support::kFirstMerge + 1, support::byte_id('3'), 2};

TEST(Vocabulary, TwoFilesAloneAreOpts) {
  const ModelFolder folder;
  write_small(folder);
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode(kTokens), kIds);
  EXPECT_EQ(tokenizer.bos(), 2);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.pad(), 1);
  EXPECT_EQ(tokenizer.table_size(), tokenizer.size());
}

TEST(Vocabulary, LineEndsOfEitherKind) {
  const ModelFolder folder;
  write_small(folder);
  folder.write("merges.txt", "Ġ t\r\nh e");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode(kTokens), kIds);
}

TEST(Vocabulary, TokenizerJsonSaysTheSame) {
  const ModelFolder folder;
  json file = small_tokenizer_json();
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", json::array({{{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})}};
  folder.write("tokenizer.json", file.dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode(kTokens), kIds);
  EXPECT_EQ(tokenizer.encode("[START_REF]", false), (std::vector<std::int32_t>{262}));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{2, 262}, true), "[START_REF]");
}

TEST(Vocabulary, GalacticaCutsDigitsAndHasNoBos) {
  const ModelFolder folder;
  json file = small_tokenizer_json();
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       json::array({{{"type", "Split"},
                     {"pattern", {{"String", "SPL1T-TH1S-Pl3A5E"}}},
                     {"behavior", "Removed"}},
                    {{"type", "Digits"}, {"individual_digits", true}},
                    {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}})}};
  file["post_processor"] = {{"type", "ByteLevel"}};
  folder.write("tokenizer.json", file.dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode(" 12"),
            (std::vector<std::int32_t>{support::byte_id(' '), support::byte_id('1'),
                                       support::byte_id('2')}));
}

TEST(Vocabulary, OtherTokenizersAreRefusedByName) {
  const auto refused = [](const char* key, const json& value, const char* part) {
    const ModelFolder folder;
    json file = small_tokenizer_json();
    file[json::json_pointer(key)] = value;
    folder.write("tokenizer.json", file.dump());
    expect_refused(folder, {"tokenizer.json", part});
  };
  refused("/model/type", "WordPiece", "WordPiece");
  refused("/model/type", "Unigram", "model.vocab");
  refused("/model/dropout", 0.1, "dropout");
  refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  refused("/normalizer", {{"type", "Precompiled"}}, "Precompiled");
  refused("/normalizer", json::parse(R"({"type": "Sequence", "normalizers": [
              {"type": "NFC"}, {"type": "BertNormalizer"}]})"),
          "normalizer.normalizers[1]");
  refused("/normalizer", json::parse(R"({"type": "Replace", "pattern": {"Regex": "("},
              "content": ""})"),
          "\"(\"");
  refused("/pre_tokenizer", {{"type", "UnicodeScripts"}}, "UnicodeScripts");
  refused("/pre_tokenizer/type", "Split", "Split");
  refused("/pre_tokenizer", json::parse(R"({"type": "Split", "pattern": {"String": "x"},
              "behavior": "Sideways"})"),
          "Sideways");
  refused("/pre_tokenizer", json::parse(R"({"type": "Sequence", "pretokenizers": [
              {"type": "ByteLevel"}, {"type": "Metaspace", "replacement": "_"}]})"),
          "Metaspace");
  refused("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "__"}}, "replacement");
  refused("/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "last"}}, "last");
  refused("/post_processor", {{"type", "BertProcessing"}}, "post_processor.cls");
  refused("/post_processor", {{"type", "Other"}}, "Other");
  refused("/post_processor", json::parse(R"({"type": "TemplateProcessing", "single": [
              {"SpecialToken": {"id": "nowhere", "type_id": 0}},
              {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}})"),
          "nowhere");
  refused("/post_processor", json::parse(R"({"type": "RobertaProcessing", "cls": ["a", 9999]})"),
          "post_processor.cls");
  refused("/decoder", {{"type", "WordPiece"}}, "WordPiece");
  refused("/decoder", json::parse(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
              {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}]})"),
          "Replace");
  refused("/decoder", json::parse(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
              {"type": "Strip", "content": " ", "start": 0, "stop": 1}]})"),
          "Strip");
  refused("/model/unk_token", "nowhere", "nowhere");
  refused("/added_tokens/0/id", -4, "added_tokens[0]");
  refused("/model/merges/0", "a b c", "merges[0]");
  refused("/model/merges/0", 3, "merges[0]");
  refused("/model/merges", "x", "merges");
  refused("/model/vocab", json::array(), "model.vocab");
}

TEST(Vocabulary, ByteFallbackNeedsNothingWhereAllBytesAreTokens) {
  const ModelFolder folder;
  json file = small_tokenizer_json();
  file["model"]["byte_fallback"] = true;
  folder.write("tokenizer.json", file.dump());
  EXPECT_EQ(Tokenizer::open(folder.path()).encode("the3", false).size(), 3U);
  file["model"]["vocab"]["zz"] = file["model"]["vocab"]["z"];
  file["model"]["vocab"].erase("z");
  folder.write("tokenizer.json", file.dump());
  expect_refused(folder, {"byte_fallback", "0x7a"});
}

TEST(Vocabulary, UnigramListsAreChecked) {
  const auto refused = [](const json& model, const char* part) {
    const ModelFolder folder;
    const json file = {{"model", model}, {"decoder", nullptr}};
    folder.write("tokenizer.json", file.dump());
    expect_refused(folder, {"tokenizer.json", part});
  };
  const json tokens = json::array({json::array({"<unk>", 0.0}), json::array({"a", -1.5})});
  refused({{"type", "Unigram"}, {"vocab", json::array()}}, "model.vocab");
  refused({{"type", "Unigram"}, {"vocab", json::array({"a"})}}, "model.vocab[0]");
  refused({{"type", "Unigram"}, {"vocab", json::array({json::array({"a", "b"})})}},
          "model.vocab[0]");
  refused({{"type", "Unigram"}, {"vocab", json::array({tokens[1], tokens[1]})}}, "model.vocab[1]");
  refused({{"type", "Unigram"}, {"vocab", tokens}, {"unk_id", 2}}, "unk_id");
  const ModelFolder folder;
  const json model = {{"vocab", tokens}};
  const json file = {{"model", model}, {"decoder", nullptr}};
  folder.write("tokenizer.json", file.dump());
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode("aa"), (std::vector<std::int32_t>{1, 1}));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{1, 1}, false), "a a");
  EXPECT_THAT([&] { tokenizer.encode("ab"); },
              testing::ThrowsMessage<InputError>(HasSubstr("\"b\"")));
}

TEST(Vocabulary, OnlyOptsOlderFilesHaveBosByDefault) {
  const ModelFolder folder;
  write_small(folder);
  folder.write("config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode("t"),
            (std::vector<std::int32_t>{support::byte_id('t')}));
  folder.write("config.json", R"({"model_type": "opt"})");
  EXPECT_EQ(Tokenizer::open(folder.path()).encode("t"),
            (std::vector<std::int32_t>{2, support::byte_id('t')}));
}

TEST(Vocabulary, SettingsFilesAreRead) {
  const ModelFolder folder;
  write_small(folder);
  folder.write("tokenizer_config.json",
               R"({"add_bos_token": false, "bos_token": "<s>", "eos_token": {"content": "</s>"},
                   "added_tokens_decoder": {"262": {"content": "<x>", "special": true}}})");
  folder.write("special_tokens_map.json", R"({"bos_token": "<unk>", "pad_token": "<pad>"})");
  folder.write("added_tokens.json", R"({"<y>": 263})");
  folder.write("config.json", R"({"vocab_size": 270})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_EQ(tokenizer.pad(), 1);
  EXPECT_EQ(tokenizer.size(), 264);
  EXPECT_EQ(tokenizer.table_size(), 270);
  EXPECT_EQ(tokenizer.encode("<x><y>"), (std::vector<std::int32_t>{262, 263}));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{262, 263, 269}, true), "<y>");
}

TEST(Vocabulary, DamagedVocabularies) {
  const auto refused = [](const std::string& vocab, const char* part) {
    const ModelFolder folder;
    write_small(folder);
    folder.write("vocab.json", vocab);
    expect_refused(folder, {"vocab.json", part});
  };
  refused("", "no JSON");
  refused("{\"a\": 1,\n\"b\" 2}", "line 2");
  refused("[1]", "flat object");
  refused("7", "object");
  refused("{}", "no tokens");
  refused(R"({"a": 1.5})", "1.5");
  refused(R"({"a": "1"})", "no integer");
  refused(R"({"a": -1})", "-1");
  refused(R"({"a": 99999999999})", "99999999999");
  refused(R"({"a": 18446744073709551615})", "no integer");
  refused(R"({"a": 1, "a": 2})", "twice");
  refused(R"({"a": 1, "b": 1})", "two tokens");
  refused(R"({"a": {"b": 1}})", "no integer");
  refused(std::string(100000, '['), "nested deeper");
  refused("{\"\xFF\": 1}", "no JSON");
  std::string whole = support::small_token_ids({}).dump();
  refused(whole.substr(0, whole.size() / 2), "no JSON");
}

TEST(Vocabulary, DamagedMerges) {
  const auto refused = [](const std::string& merges, const char* part) {
    const ModelFolder folder;
    write_small(folder);
    folder.write("merges.txt", merges);
    expect_refused(folder, {"merges.txt", part});
  };
  refused("#version: 0.2\nĠ t\nhe\n", "line 3");
  refused("Ġ t\n\nh e\n", "line 2");
  refused("Ġ t x\n", "line 1");
  refused(" t\n", "line 1");
  refused("t \n", "line 1");
  refused("q z\n", "\"qz\"");
  refused("Ġ t\nq \xFF\n", "line 2");
  refused("Ġ t\nĠ t\n", "twice");
}

TEST(Vocabulary, DamagedSettings) {
  const auto refused = [](const char* name, const std::string& text, const char* part) {
    const ModelFolder folder;
    write_small(folder);
    folder.write(name, text);
    expect_refused(folder, {part});
  };
  refused("tokenizer_config.json", "{", "tokenizer_config.json");
  refused("tokenizer_config.json", "[]", "no JSON object");
  refused("tokenizer_config.json", R"({"add_prefix_space": 1})", "add_prefix_space");
  refused("tokenizer_config.json", R"({"split_special_tokens": true})", "split_special_tokens");
  refused("tokenizer_config.json", R"({"add_bos_token": 1})", "add_bos_token");
  refused("tokenizer_config.json", R"({"bos_token": 3})", "bos_token");
  refused("tokenizer_config.json", R"({"bos_token": {"content": "</s>", "rstrip": 1}})", "rstrip");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": {"x": "a"}})",
          "added_tokens_decoder.x");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": {"7": "a"}})", "already");
  refused("tokenizer_config.json", R"({"added_tokens_decoder": {"7": "fresh"}})", "two tokens");
  refused("special_tokens_map.json", R"({"pad_token": ""})", "without text");
  refused("added_tokens.json", R"({"<y>": "7"})", "added_tokens.json");
  refused("config.json", R"({"vocab_size": 100})", "vocab_size 100");
}

TEST(Vocabulary, TheNewerDescriptionCounts) {
  const ModelFolder folder;
  write_small(folder);
  json file = small_tokenizer_json();
  file["added_tokens"].push_back({{"id", 263}, {"content", "<work>"}, {"rstrip", true}});
  folder.write("tokenizer.json", file.dump());
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode("<work>  the"),
            (std::vector<std::int32_t>{263, support::byte_id('t'), support::kFirstMerge + 1}));
  // What is left of the older description is not even read.
  folder.write("vocab.json", "{");
  EXPECT_EQ(Tokenizer::open(folder.path()).size(), 264);
}

TEST(Vocabulary, SettingsBesideTokenizerJson) {
  const auto ids_of = [](const char* settings, const std::string& text) {
    const ModelFolder folder;
    json file = small_tokenizer_json();
    file["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "single": [
        {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}})");
    folder.write("tokenizer.json", file.dump());
    folder.write("tokenizer_config.json", settings);
    folder.write("added_tokens.json", R"({"<stale>": 262})");
    return Tokenizer::open(folder.path()).encode(text);
  };
  using Ids = std::vector<std::int32_t>;
  const std::int32_t kT = support::byte_id('t');
  EXPECT_EQ(ids_of("{}", "t"), (Ids{kT, 2}));
  EXPECT_EQ(ids_of(R"({"add_bos_token": true, "bos_token": "<s>"})", "t"), (Ids{kT, 2}));
  EXPECT_EQ(ids_of(R"({"add_eos_token": false})", "t"), (Ids{kT, 2}));
  EXPECT_EQ(ids_of(R"({"add_prefix_space": true, "tokenizer_class": "GPT2TokenizerFast"})", "t"),
            (Ids{support::kFirstMerge, 2}));
  EXPECT_EQ(ids_of(R"({"add_prefix_space": true})", "t"), (Ids{kT, 2}));
  // A name that no file lists becomes a special token; fields that it has already stay.
  EXPECT_EQ(ids_of(R"({"pad_token": "[PAD]"})", "t[PAD]"), (Ids{kT, 263, 2}));
  EXPECT_EQ(ids_of(R"({"extra_special_tokens": ["[X]", {"content": "[Y]", "lstrip": true}]})",
                   "t[X] [Y]"),
            (Ids{kT, 263, 264, 2}));
  EXPECT_EQ(ids_of(R"({"added_tokens_decoder": {"262": {"content": "[START_REF]", "lstrip": true,
                       "rstrip": false, "single_word": false, "normalized": false,
                       "special": false}}})",
                   "t [START_REF]"),
            (Ids{kT, 262, 2}));
}

TEST(Vocabulary, SettingsSayWhatStandsAroundATextOfTheOlderFiles) {
  const auto ids_of = [](const char* settings) {
    const ModelFolder folder;
    write_small(folder);
    folder.write("tokenizer_config.json", settings);
    return Tokenizer::open(folder.path()).encode("t");
  };
  using Ids = std::vector<std::int32_t>;
  const std::int32_t kT = support::byte_id('t');
  EXPECT_EQ(ids_of("{}"), (Ids{2, kT}));
  EXPECT_EQ(ids_of(R"({"add_bos_token": false})"), (Ids{kT}));
  EXPECT_EQ(ids_of(R"({"add_eos_token": true, "eos_token": "<unk>"})"), (Ids{2, kT, 3}));
  EXPECT_EQ(ids_of(R"({"add_prefix_space": true})"), (Ids{2, support::kFirstMerge}));
}

TEST(Vocabulary, AddedTokensMayLieBeyondTheModelsTable) {
  const ModelFolder folder;
  write_small(folder);
  folder.write("config.json", R"({"vocab_size": 262})");
  folder.write("tokenizer_config.json", R"({"pad_token": "[PAD]"})");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_EQ(tokenizer.encode(kTokens), kIds);
  EXPECT_THAT([&] { tokenizer.encode("a[PAD]"); },
              testing::ThrowsMessage<InputError>(AllOf(HasSubstr("[PAD]"), HasSubstr("262"))));
  folder.write("tokenizer_config.json", R"({"bos_token": "[BOS]"})");
  expect_refused(folder, {"262", "vocab_size 262"});
}

TEST(Vocabulary, MissingFiles) {
  const ModelFolder empty;
  expect_refused(empty, {"no tokenizer", "vocab.json", "tokenizer.json"});
  const ModelFolder half;
  write_small(half);
  std::filesystem::remove(half.path() / "merges.txt");
  expect_refused(half, {"merges.txt"});
  const ModelFolder folder;
  std::filesystem::create_directory(folder.path() / "vocab.json");
  expect_refused(folder, {"not a regular file"});
  // A download that was broken off: the newer file is known of, so the older must not stand in.
  const ModelFolder broken;
  write_small(broken);
  std::filesystem::create_symlink("gone", broken.path() / "tokenizer.json");
  expect_refused(broken, {"tokenizer.json", "No such file"});
}

TEST(Vocabulary, AVocabularyWithoutItsBytesIsRefused) {
  const ModelFolder folder;
  folder.write("vocab.json", R"({"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3})");
  folder.write("merges.txt", "");
  expect_refused(folder, {"0x00"});
}

}  // namespace
}  // namespace sluice::launcher
