#include "launcher/tokenizer/tokenizer_facts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

std::string line(const char* label, const std::string& text) {
  return fmt::format("{:<13} {}\n", label, text);
}

const char* kind_of(const Vocabulary& vocabulary) {
  switch (vocabulary.kind) {
    case Vocabulary::Kind::bytes:
      return "byte-level BPE";
    case Vocabulary::Kind::characters:
      return vocabulary.byte_fallback ? "BPE over characters with byte fallback"
                                      : "BPE over characters";
    case Vocabulary::Kind::unigram:
      return vocabulary.byte_fallback ? "Unigram with byte fallback" : "Unigram";
    case Vocabulary::Kind::sentence_piece:
      return "SentencePiece";
  }
  return "";
}

/// The file, and those that say the same and were passed over.
std::string files_of(const Vocabulary& vocabulary) {
  const std::filesystem::path source = vocabulary.source;
  std::vector<std::string> passed_over;
  bool behind = false;
  for (const char* name : {"tokenizer.json", "vocab.json", "tokenizer.model"}) {
    if (behind && has_file(source.parent_path(), name)) passed_over.emplace_back(name);
    behind = behind || source.filename() == name;
  }
  std::string text = source.string();
  if (source.filename() == "vocab.json") text += " with merges.txt";
  if (!passed_over.empty()) {
    text += fmt::format("; {} passed over", fmt::join(passed_over, " and "));
  }
  return text;
}

std::string model_text(const Vocabulary& vocabulary) {
  std::string text = fmt::format("{}, {} tokens", kind_of(vocabulary), vocabulary.ids.size());
  if (!vocabulary.merges.empty()) text += fmt::format(", {} merges", vocabulary.merges.size());
  if (vocabulary.ignores_merges) text += ", whole words before merges";
  if (vocabulary.fuses_unknown) text += ", unknown ones fused";
  if (vocabulary.table_size != vocabulary.size) {
    text += fmt::format(" (the model has {} rows)", vocabulary.table_size);
  }
  return text;
}

std::string added_token_text(const AddedToken& token) {
  std::string text = fmt::format("{} {}", token.id, Json(token.text).dump());
  const auto say = [&](bool flag, const char* name) {
    if (flag) text += fmt::format(" {}", name);
  };
  say(token.special, "special");
  say(token.single_word, "single_word");
  say(token.lstrip, "lstrip");
  say(token.rstrip, "rstrip");
  say(token.normalized, "normalized");
  say(!token.in_text, "not in texts");
  return text;
}

std::string added_tokens_text(const Vocabulary& vocabulary) {
  constexpr std::size_t kMost = 40;
  std::vector<AddedToken> tokens = vocabulary.added;
  std::ranges::sort(tokens, {}, &AddedToken::id);
  std::string text = line("added tokens", fmt::to_string(tokens.size()));
  for (std::size_t i = 0; i < std::min(tokens.size(), kMost); ++i) {
    text += line("", added_token_text(tokens[i]));
  }
  if (tokens.size() > kMost) text += line("", fmt::format("and {} more", tokens.size() - kMost));
  return text;
}

std::string ids_text(const std::vector<std::int32_t>& ids) {
  return ids.empty() ? "nothing" : fmt::format("{}", fmt::join(ids, " "));
}

}  // namespace

std::string tokenizer_line(const Tokenizer& tokenizer) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  return fmt::format("{} of {} tokens, from {}", kind_of(vocabulary), vocabulary.ids.size(),
                     std::filesystem::path(vocabulary.source).filename().string());
}

std::string explain_tokenizer(const Tokenizer& tokenizer) {
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  std::string text = line("tokenizer", model_text(vocabulary));
  text += line("from", files_of(vocabulary));
  text += line("normalizer", describe(vocabulary.normalizer));
  text += line("pieces", describe(vocabulary.pre_tokenizer));
  text += line("decoder", describe(vocabulary.decoder));
  text += line("around a text", fmt::format("{} in front, {} behind", ids_text(vocabulary.prefix),
                                            ids_text(vocabulary.suffix)));
  return text + added_tokens_text(vocabulary);
}

}  // namespace sluice::launcher
