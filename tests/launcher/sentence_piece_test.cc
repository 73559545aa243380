// Model files of the SentencePiece library, which this test trains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/tokenizer/tokenizer.h"
#include "tests/support/model_folder.h"

namespace sluice::launcher {
namespace {

using support::ModelFolder;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Ids = std::vector<std::int32_t>;

/// `symbols`: tokens of the user, as --user_defined_symbols takes them.
void train(const ModelFolder& folder, const std::string& name, const std::string& symbols) {
  std::string text;
  for (int i = 0; i < 50; ++i) {
    text += "the quick brown fox jumps over the lazy dog number " + std::to_string(i) + "\n";
  }
  folder.write("text.txt", text);
  const std::string prefix = (folder.path() / "trained").string();
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--minloglevel=2 --model_type=bpe --byte_fallback=true --vocab_size=360 "
      "--remove_extra_whitespaces=false --input=" +
      (folder.path() / "text.txt").string() + " --model_prefix=" + prefix +
      (symbols.empty() ? "" : " --user_defined_symbols=" + symbols));
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::filesystem::rename(prefix + ".model", folder.path() / name);
}

const std::vector<std::string> kTexts = {"",       "the fox",  " the  quick ", "a\nb", "7 dogs!",
                                         "\u00E9", "\u4E2D x", "jumps\tover",  "x"};

TEST(SentencePiece, TheFileAloneIsATokenizer) {
  const ModelFolder folder;
  train(folder, "tokenizer.model", "");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  EXPECT_TRUE(Tokenizer::has_files(folder.path()));
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load((folder.path() / "tokenizer.model").string()).ok());
  EXPECT_EQ(tokenizer.size(), library.GetPieceSize());
  for (const std::string& text : kTexts) {
    EXPECT_EQ(tokenizer.encode(text, false), library.EncodeAsIds(text)) << text;
    EXPECT_EQ(tokenizer.decode(library.EncodeAsIds(text), true),
              library.DecodeIds(library.EncodeAsIds(text)))
        << text;
  }
  EXPECT_EQ(tokenizer.encode("x").front(), library.bos_id());
  EXPECT_EQ(tokenizer.encode("</s>", false), (Ids{library.eos_id()}));
  EXPECT_EQ(tokenizer.decode(Ids{library.bos_id()}, true), "");
}

TEST(SentencePiece, YalmsFileHasATokenForLineBreaks) {
  const ModelFolder folder;
  train(folder, "voc_100b.sp", "[NL]");
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  const std::int32_t line_break = tokenizer.vocabulary().find("[NL]");
  const Ids ids = tokenizer.encode("the\nfox");
  EXPECT_EQ(ids.front(), tokenizer.bos());
  EXPECT_EQ(std::count(ids.begin(), ids.end(), line_break), 1);
  EXPECT_EQ(tokenizer.decode(ids, true), "the\nfox");
  EXPECT_GT(tokenizer.encode("</s>", false).size(), 1U);
}

TEST(SentencePiece, WhatIsNoModelIsRefused) {
  const ModelFolder folder;
  folder.write("tokenizer.model", "not a model");
  EXPECT_THAT([&] { Tokenizer::open(folder.path()); },
              ThrowsMessage<InputError>(HasSubstr("tokenizer.model")));
}

}  // namespace
}  // namespace sluice::launcher
