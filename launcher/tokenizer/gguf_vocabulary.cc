#include "launcher/tokenizer/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "launcher/tokenizer/utf8.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {
namespace {

using offload::GgufFile;

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPattern = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kBlank = "\u2581";
// Bounds on time and memory, far above any model: bytes of a token, and merges of all.
constexpr std::size_t kLongestPiece = 512;
constexpr std::size_t kMostMerges = 1U << 22U;

enum class TokenType : std::int32_t { normal = 1, unknown, control, user_defined, unused, byte };

// --------------------------------------------------------------------------------- byte-level BPE

// Source: the pre_tokenizer of each model's tokenizer.json.
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                                    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// How a text is cut into words, by the name that llama.cpp has for it.
struct Pattern {
  std::string_view name;
  std::string_view words;        // empty: GPT-2's
  bool composes = false;         // NFC first
  bool single_digits = false;    // cut out before all else
  bool whole_words = false;      // a word that is a token needs no merges
  bool begins_with_bos = false;  // where the file does not say
};
constexpr std::array kPatterns = {
    Pattern{"llama-bpe", kLlama3, false, false, true, true},
    Pattern{"llama3", kLlama3, false, false, true, true},
    Pattern{"llama-v3", kLlama3, false, false, true, true},
    Pattern{"falcon3", kLlama3, false, false, true, true},
    Pattern{"pixtral", kLlama3, false, false, true, true},
    Pattern{"smaug-bpe", kLlama3},
    Pattern{"dbrx", kLlama3},
    Pattern{"qwen2", kQwen2, true},
    Pattern{"deepseek-r1-qwen", kQwen2, true},
    Pattern{"stablelm2", kQwen2},
    Pattern{"tekken", kTekken, false, false, true, true},
    Pattern{"gpt-4o", kGpt4o},
    Pattern{"gpt-2", {}},
    Pattern{"olmo", {}},
    Pattern{"smollm", {}, false, true},
    Pattern{"starcoder", {}, false, true},
    Pattern{"refact", {}, false, true},
    Pattern{"codeshell", {}, false, true},
};

const Pattern& pattern_of(const GgufFile& file) {
  const std::string_view name = file.text(kPattern).value_or("");
  const auto* const found = std::ranges::find(kPatterns, name, &Pattern::name);
  if (found != kPatterns.end()) return *found;
  std::string known;
  for (const Pattern& pattern : kPatterns) {
    known += (known.empty() ? "" : ", ") + std::string(pattern.name);
  }
  file.fail(kPattern, fmt::format("is \"{}\", but only {} are known, so that words would be cut in "
                                  "other places",
                                  offload::printable(name), known));
}

void set_steps(const Pattern& pattern, Vocabulary& vocabulary) {
  using Step = PreTokenizerStep;
  vocabulary.kind = Vocabulary::Kind::bytes;
  vocabulary.ignores_merges = pattern.whole_words;
  if (pattern.composes) vocabulary.normalizer = {{.kind = NormalizerStep::Kind::nfc}};
  vocabulary.pre_tokenizer.clear();
  if (pattern.single_digits) {
    vocabulary.pre_tokenizer.push_back({.kind = Step::Kind::digits, .individual_digits = true});
  }
  if (!pattern.words.empty()) {
    vocabulary.pre_tokenizer.push_back(
        {.kind = Step::Kind::split, .pattern = {std::string(pattern.words), true}});
  }
  vocabulary.pre_tokenizer.push_back(
      {.kind = Step::Kind::byte_level, .use_regex = pattern.words.empty()});
}

/// "left right" by rank.
void read_merge_list(const GgufFile& file, Vocabulary& vocabulary) {
  const auto merges = file.texts(kMerges);
  if (!merges) file.fail(kMerges, "is not there");
  for (std::size_t i = 0; i < merges->size(); ++i) {
    const std::string_view merge = (*merges)[i];
    const std::size_t blank = merge.find(' ', 1);
    if (blank == std::string_view::npos || blank + 1 == merge.size()) {
      file.fail(kMerges, fmt::format("[{}] is not two tokens with one blank between them", i));
    }
    add_merge(std::string(merge.substr(0, blank)), std::string(merge.substr(blank + 1)),
              fmt::format("{}: {}[{}]", file.name(), kMerges, i), vocabulary);
  }
}

// ---------------------------------------------------------------------------------- SentencePiece

void set_piece_steps(const GgufFile& file, Vocabulary& vocabulary) {
  using Step = DecoderStep;
  vocabulary.kind = Vocabulary::Kind::characters;
  vocabulary.byte_fallback = true;
  vocabulary.pre_tokenizer.clear();
  const bool has_prefix = file.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  if (has_prefix) {
    vocabulary.normalizer.push_back({.kind = NormalizerStep::Kind::prepend, .content = kBlank});
  }
  vocabulary.normalizer.push_back(
      {.kind = NormalizerStep::Kind::replace, .pattern = {.text = " "}, .content = kBlank});
  vocabulary.decoder = {{.kind = Step::Kind::replace, .pattern = {.text = kBlank}, .content = " "},
                        {.kind = Step::Kind::byte_fallback},
                        {.kind = Step::Kind::fuse}};
  if (has_prefix) {
    vocabulary.decoder.push_back({.kind = Step::Kind::strip, .content = " ", .start = 1});
  }
}

/// SentencePiece merges two neighbours that together are a token: first where that token has the
/// best score, and the leftmost of equals. So merges are ranked by the scores of their products,
/// and equal scores have one rank.
void make_merges(const GgufFile& file, const std::vector<std::string_view>& tokens,
                 const std::vector<TokenType>& types, Vocabulary& vocabulary) {
  const auto scores = file.reals(kScores);
  if (!scores || scores->size() != tokens.size()) {
    file.fail(kScores, fmt::format("is not there, or has not {} numbers", tokens.size()));
  }
  std::unordered_map<std::string_view, std::int32_t> pieces;
  std::vector<std::int32_t> by_score;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] != TokenType::normal) continue;
    if (!((*scores)[id] == (*scores)[id])) file.fail(kScores, fmt::format("[{}] is no number", id));
    pieces.emplace(tokens[id], static_cast<std::int32_t>(id));
    by_score.push_back(static_cast<std::int32_t>(id));
  }
  const auto score = [&](std::int32_t id) { return (*scores)[static_cast<std::size_t>(id)]; };
  std::ranges::stable_sort(by_score, std::ranges::greater(), score);
  const auto find = [&](std::string_view text) {
    const auto found = pieces.find(text);
    return found == pieces.end() ? -1 : found->second;
  };
  float last = 0;
  for (const std::int32_t product : by_score) {
    const std::string_view text = tokens[static_cast<std::size_t>(product)];
    if (text.size() > kLongestPiece) {
      file.fail(kTokens, fmt::format("[{}] has {} bytes, more than any model's tokens", product,
                                     text.size()));
    }
    for (std::size_t at = first_part(text).bytes; at < text.size();
         at += first_part(text.substr(at)).bytes) {
      const std::int32_t left = find(text.substr(0, at));
      const std::int32_t right = left < 0 ? -1 : find(text.substr(at));
      if (right < 0) continue;
      if (vocabulary.merges.size() == kMostMerges) {
        file.fail(kTokens, "can be put together from one another in more ways than any model's");
      }
      const bool equal = !vocabulary.merges.empty() && score(product) == last;
      vocabulary.merges.push_back({left, right, product, equal});
      last = score(product);
    }
  }
}

// ------------------------------------------------------------------------------------------- both

/// The type of each token. A token without text is unused.
std::vector<TokenType> read_types(const GgufFile& file,
                                  const std::vector<std::string_view>& tokens) {
  const auto given = file.integers(kTypes);
  if (given && given->size() != tokens.size()) {
    file.fail(kTypes, fmt::format("has {} numbers for {} tokens", given->size(), tokens.size()));
  }
  std::vector<TokenType> types(tokens.size(), TokenType::normal);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (given) types[i] = static_cast<TokenType>((*given)[i]);
    if (tokens[i].empty()) types[i] = TokenType::unused;
  }
  return types;
}

/// Adds the tokens that a text can have. Unused ones, such as [PAD151646], are left out.
void add_tokens(const GgufFile& file, const std::vector<std::string_view>& tokens,
                const std::vector<TokenType>& types, Vocabulary& vocabulary) {
  const std::string where = fmt::format("{}: {}", file.name(), kTokens);
  const auto is_learnt = [&](std::size_t id) {
    return types[id] == TokenType::normal || types[id] == TokenType::byte;
  };
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!is_valid_utf8(tokens[id])) file.fail(kTokens, fmt::format("[{}] is no UTF-8", id));
    if (is_learnt(id)) {
      add_token(std::string(tokens[id]), static_cast<std::int64_t>(id), where, vocabulary);
    }
  }
  vocabulary.words = static_cast<std::int32_t>(vocabulary.ids.size());
  vocabulary.words_end = vocabulary.size;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const bool is_special = types[id] == TokenType::control || types[id] == TokenType::unknown;
    if (!is_special && types[id] != TokenType::user_defined) continue;
    add_added_token({.text = std::string(tokens[id]),
                     .id = static_cast<std::int32_t>(id),
                     .special = is_special},
                    where, vocabulary);
  }
  vocabulary.table_size = static_cast<std::int32_t>(tokens.size());
}

/// BOS and EOS around a text.
void set_surroundings(const GgufFile& file, bool usually_bos, Vocabulary& vocabulary) {
  const auto put = [&](const char* key, bool otherwise, std::int32_t id,
                       std::vector<std::int32_t>& ids) {
    if (!file.flag(key).value_or(otherwise)) return;
    if (id < 0) file.fail(key, "is true, but the file names no such token");
    ids.push_back(id);
  };
  put("tokenizer.ggml.add_bos_token", usually_bos, vocabulary.bos, vocabulary.prefix);
  put("tokenizer.ggml.add_eos_token", false, vocabulary.eos, vocabulary.suffix);
}

/// Texts of tokens that end an answer, though the metadata does not name them.
constexpr std::array<std::string_view, 10> kEndTexts = {
    "<|eot_id|>",      "<|eom_id|>",    "<|im_end|>", "<|end|>", "<|endoftext|>",
    "<|end_of_text|>", "<end_of_turn>", "</s>",       "<EOT>",   "_<EOT>"};

}  // namespace

bool has_vocabulary(const GgufFile& file) {
  const std::string_view model = file.text(kModel).value_or("none");
  return model != "none" && model != "no_vocab";
}

GgufIds read_gguf_ids(const GgufFile& file, std::int32_t tokens) {
  const auto read = [&](const char* key, std::int32_t otherwise) {
    const std::optional<std::int64_t> id = file.integer(key);
    if (!id) return otherwise < tokens ? otherwise : -1;
    if (*id >= 0 && *id < tokens) return static_cast<std::int32_t>(*id);
    file.fail(key, fmt::format("is {}, but the model has {} tokens", *id, tokens));
  };
  GgufIds ids;
  // llama.cpp's own defaults, for vocabularies of SentencePiece.
  const bool is_pieces = file.text(kModel).value_or("") != "gpt2";
  ids.bos = read("tokenizer.ggml.bos_token_id", is_pieces ? 1 : -1);
  ids.eos = read("tokenizer.ggml.eos_token_id", is_pieces ? 2 : -1);
  ids.pad = read("tokenizer.ggml.padding_token_id", -1);
  const auto add_end = [&](std::int32_t id) {
    const bool is_new = std::ranges::find(ids.ends, id) == ids.ends.end();
    if (id >= 0 && id < tokens && is_new) ids.ends.push_back(id);
  };
  add_end(ids.eos);
  add_end(read("tokenizer.ggml.eot_token_id", -1));
  add_end(read("tokenizer.ggml.eom_token_id", -1));
  if (!has_vocabulary(file)) return ids;
  const auto texts = file.texts(kTokens).value_or(std::vector<std::string_view>());
  const std::vector<TokenType> types = read_types(file, texts);
  for (std::size_t id = 0; id < texts.size(); ++id) {
    if (types[id] == TokenType::normal || std::ranges::count(kEndTexts, texts[id]) == 0) continue;
    add_end(static_cast<std::int32_t>(id));
  }
  return ids;
}

Vocabulary read_gguf_vocabulary(const std::filesystem::path& path) {
  const GgufFile file(path);
  const auto tokens = file.texts(kTokens);
  if (!tokens || tokens->empty()) file.fail(kTokens, "is not there, or is empty");
  const std::vector<TokenType> types = read_types(file, *tokens);
  const std::string_view model = file.text(kModel).value_or("");
  Vocabulary vocabulary;
  vocabulary.source = file.name();
  vocabulary.drops_unknown = true;
  vocabulary.merges_in_rounds = false;
  add_tokens(file, *tokens, types, vocabulary);
  const GgufIds ids = read_gguf_ids(file, vocabulary.table_size);
  vocabulary.bos = ids.bos;
  vocabulary.eos = ids.eos;
  vocabulary.pad = ids.pad;
  if (model == "llama") {
    set_piece_steps(file, vocabulary);
    make_merges(file, *tokens, types, vocabulary);
    const auto unknown = std::ranges::find(types, TokenType::unknown);
    if (unknown != types.end()) {
      vocabulary.unknown = static_cast<std::int32_t>(unknown - types.begin());
      vocabulary.fuses_unknown = true;
    }
    set_surroundings(file, true, vocabulary);
  } else if (model == "gpt2") {
    const Pattern& pattern = pattern_of(file);
    set_steps(pattern, vocabulary);
    read_merge_list(file, vocabulary);
    set_surroundings(file, pattern.begins_with_bos, vocabulary);
  } else {
    file.fail(kModel, fmt::format("is \"{}\", but only llama and gpt2 are known",
                                  offload::printable(model)));
  }
  return vocabulary;
}

}  // namespace sluice::launcher
