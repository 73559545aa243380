// Vocabularies of GGUF files: SentencePiece's, which this test trains, and what is refused. Those
// of byte-level BPE are in tokenizers_reference_test.cc.
#include "launcher/tokenizer/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <string>
#include <vector>

#include "launcher/chat/chat_template.h"
#include "launcher/tokenizer/tokenizer.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::launcher {
namespace {

using support::GgufBytes;
using support::refusal;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

const std::filesystem::path kFiles =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "data" / "gguf";

class GgufVocabularyTest : public testing::Test {
 protected:
  std::filesystem::path write(const GgufBytes& bytes) const {
    return support::write_file(folder_.path() / "m.gguf", bytes.bytes());
  }
  std::string refused(const GgufBytes& bytes) const {
    const std::filesystem::path path = write(bytes);
    return refusal([&] { Tokenizer::open(path); });
  }

  /// A model of the library as Llama's was trained.
  void train(sentencepiece::SentencePieceProcessor& library) const {
    std::string text;
    for (int i = 0; i < 50; ++i) {
      text += "the quick brown fox jumps over  the lazy dog number " + std::to_string(i) + "\n";
      text += "    aaaa aaa bbbbbbb    then the other one\n";
    }
    support::write_file(folder_.path() / "text.txt", text);
    const std::string prefix = (folder_.path() / "trained").string();
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        "--minloglevel=2 --model_type=bpe --byte_fallback=true --vocab_size=420 "
        "--remove_extra_whitespaces=false --normalization_rule_name=identity "
        "--allow_whitespace_only_pieces=true --input=" +
        (folder_.path() / "text.txt").string() + " --model_prefix=" + prefix);
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_TRUE(library.Load(prefix + ".model").ok());
  }

  /// As llama.cpp's converter writes it.
  static GgufBytes as_gguf(const sentencepiece::SentencePieceProcessor& library) {
    std::vector<std::string> tokens;
    std::vector<float> scores;
    Ids types;
    for (int id = 0; id < library.GetPieceSize(); ++id) {
      tokens.push_back(library.IdToPiece(id));
      scores.push_back(library.GetScore(id));
      types.push_back(library.IsUnknown(id)   ? 2
                      : library.IsControl(id) ? 3
                      : library.IsByte(id)    ? 6
                                              : 1);
    }
    GgufBytes bytes;
    bytes.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.pre", "default");
    bytes.add("tokenizer.ggml.tokens", tokens).add("tokenizer.ggml.scores", scores);
    return bytes.add("tokenizer.ggml.token_type", types);
  }

  support::ScratchFolder folder_;
};

GgufBytes letters() {
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
  bytes.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<e>", "[PAD4]"});
  return bytes.add("tokenizer.ggml.token_type", Ids{1, 1, 1, 3, 5});
}

const std::vector<std::string> kMerges = {"a b"};

TEST_F(GgufVocabularyTest, PiecesWithScoresAreTheLibrarysOwn) {
  sentencepiece::SentencePieceProcessor library;
  train(library);
  const Tokenizer tokenizer = Tokenizer::open(write(as_gguf(library)));
  EXPECT_EQ(tokenizer.size(), library.GetPieceSize());
  std::vector<std::string> texts = {"the fox",    " the  quick ", "a\nb",        "7 dogs!",
                                    "\u00E9",     "\u4E2D x",     "jumps\tover", "x",
                                    "aaaaa",      "bbbbbbbbbbb",  "     a    b", "thethethe",
                                    "aaaabbbaaa", "<0x41>"};
  const std::string letters = "abetho  \u00E9";
  std::uint64_t seed = 1;
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int length = 0; length < 30; ++length) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      text += letters[(seed >> 33U) % 8];
    }
    texts.push_back(text);
  }
  for (const std::string& text : texts) {
    const Ids ids = tokenizer.encode(text, false);
    ASSERT_EQ(ids, library.EncodeAsIds(text)) << text;
    ASSERT_EQ(tokenizer.decode(ids, true), text);
  }
  EXPECT_EQ(tokenizer.encode("x").front(), library.bos_id());
  EXPECT_EQ(tokenizer.encode("</s>", false), (Ids{library.eos_id()}));
  EXPECT_TRUE(tokenizer.is_special(library.unk_id()));
}

TEST_F(GgufVocabularyTest, TheBlankInFrontAndBosAreTheFilesToSay) {
  sentencepiece::SentencePieceProcessor library;
  train(library);
  GgufBytes bytes = as_gguf(library);
  bytes.add("tokenizer.ggml.add_space_prefix", false).add("tokenizer.ggml.add_bos_token", false);
  bytes.add("tokenizer.ggml.add_eos_token", true);
  const Tokenizer tokenizer = Tokenizer::open(write(bytes));
  const Ids ids = tokenizer.encode("the", false);
  EXPECT_EQ(ids, (Ids{library.PieceToId("the")}));
  EXPECT_EQ(tokenizer.decode(ids, true), "the");
  EXPECT_EQ(tokenizer.encode("the"), (Ids{ids.front(), library.eos_id()}));
}

TEST_F(GgufVocabularyTest, TokensThatNoTextHasAreRowsWithoutText) {
  GgufBytes bytes = letters();
  bytes.add("tokenizer.ggml.merges", kMerges);
  const Tokenizer tokenizer = Tokenizer::open(write(bytes));
  EXPECT_EQ(tokenizer.encode("ab<e>[PAD4]ba"), (Ids{2, 3, 1, 0}));  // other bytes have no token
  EXPECT_EQ(tokenizer.table_size(), 5);
  EXPECT_EQ(tokenizer.decode(Ids{2, 4, 3}, false), "ab<e>");
  EXPECT_TRUE(tokenizer.is_special(3));
}

TEST_F(GgufVocabularyTest, WhatIsNotKnownIsRefusedByKey) {
  EXPECT_THAT(refused(GgufBytes()), HasSubstr("tokenizer.ggml.tokens is not there"));
  GgufBytes other;
  other.add("tokenizer.ggml.model", "bert");
  other.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  EXPECT_THAT(refused(other),
              HasSubstr("tokenizer.ggml.model is \"bert\", but only llama and gpt2"));
  GgufBytes pattern;
  pattern.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "kimi-k2");
  pattern.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  EXPECT_THAT(refused(pattern),
              AllOf(HasSubstr("m.gguf"), HasSubstr("tokenizer.ggml.pre is \"kimi"),
                    HasSubstr("llama-bpe, "), HasSubstr("qwen2, ")));
}

TEST_F(GgufVocabularyTest, ListsThatDoNotFitAreRefused) {
  EXPECT_THAT(refused(letters()), HasSubstr("tokenizer.ggml.merges is not there"));
  GgufBytes merges = letters();
  merges.add("tokenizer.ggml.merges", std::vector<std::string>{"ab"});
  EXPECT_THAT(refused(merges), HasSubstr("tokenizer.ggml.merges [0] is not two tokens"));
  GgufBytes unknown = letters();
  unknown.add("tokenizer.ggml.merges", std::vector<std::string>{"a c"});
  EXPECT_THAT(refused(unknown), HasSubstr("no token \"c\""));
  GgufBytes types;
  types.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.token_type", Ids{1});
  types.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  EXPECT_THAT(refused(types), HasSubstr("tokenizer.ggml.token_type has 1 numbers for 2 tokens"));
  GgufBytes scores;
  scores.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.scores", std::vector<float>{1});
  scores.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  EXPECT_THAT(refused(scores), HasSubstr("tokenizer.ggml.scores is not there, or has not 2"));
  GgufBytes broken;
  broken.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "\xFF"});
  EXPECT_THAT(refused(broken), HasSubstr("tokenizer.ggml.tokens [1] is no UTF-8"));
  GgufBytes twice;
  twice.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "a"});
  EXPECT_THAT(refused(twice), HasSubstr("the token \"a\" the id 1"));
  GgufBytes eos = letters();
  eos.add("tokenizer.ggml.merges", kMerges).add("tokenizer.ggml.eos_token_id", 5U);
  EXPECT_THAT(refused(eos), HasSubstr("tokenizer.ggml.eos_token_id is 5, but"));
  GgufBytes bos = letters();
  bos.add("tokenizer.ggml.merges", kMerges).add("tokenizer.ggml.add_bos_token", true);
  EXPECT_THAT(refused(bos), HasSubstr("tokenizer.ggml.add_bos_token is true, but"));
}

// A few megabytes of tokens, of which each two neighbours merge, would become gigabytes of merges.
TEST_F(GgufVocabularyTest, MergesAreBounded) {
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < 165 * 165; ++i) {
    tokens.push_back(std::string(1 + i / 165, 'a') + std::string(1 + i % 165, 'b'));
  }
  for (std::size_t i = 1; i <= 165; ++i) {
    tokens.insert(tokens.end(), {std::string(i, 'a'), std::string(i, 'b')});
  }
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.tokens", tokens);
  bytes.add("tokenizer.ggml.scores", std::vector<float>(tokens.size()));
  EXPECT_THAT(refused(bytes), HasSubstr("tokenizer.ggml.tokens can be put together"));
}

TEST_F(GgufVocabularyTest, EndsAreNamedOrKnownByTheirTexts) {
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "gpt2");
  bytes.add("tokenizer.ggml.tokens",
            std::vector<std::string>{"a", "<|eot_id|>", "</s>", "<|im_end|>", "<x>"});
  bytes.add("tokenizer.ggml.token_type", Ids{1, 3, 1, 4, 3});
  bytes.add("tokenizer.ggml.eos_token_id", 4U).add("tokenizer.ggml.eot_token_id", 1U);
  const GgufIds ids = read_gguf_ids(offload::GgufFile(write(bytes)), 5);
  EXPECT_THAT(ids.ends, ElementsAre(4, 1, 3));  // a usual token of such a text is none
  EXPECT_EQ(ids.bos, -1);
}

TEST_F(GgufVocabularyTest, TheChatTemplateIsInTheFile) {
  const std::filesystem::path path = kFiles / "llama3-like-bf16.gguf";
  const Tokenizer tokenizer = Tokenizer::open(path);
  const ChatTemplate chat = ChatTemplate::open(path, tokenizer);
  Chat conversation;
  conversation.messages = Json::parse(R"([{"role": "user", "content": "hi"}])");
  EXPECT_EQ(chat.render(conversation), "<|begin|>user: hi<|end|><|begin|>assistant:");
  const std::filesystem::path bare = kFiles / "gpt2-style.gguf";
  EXPECT_THAT(refusal([&] { ChatTemplate::open(bare, tokenizer).check(); }),
              HasSubstr("has no chat template"));
}

TEST_F(GgufVocabularyTest, AFileMayHaveNone) {
  GgufBytes bytes;
  bytes.add("tokenizer.ggml.model", "no_vocab");
  EXPECT_FALSE(Tokenizer::has_files(write(bytes)));
}

}  // namespace
}  // namespace sluice::launcher
