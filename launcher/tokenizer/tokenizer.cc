#include "launcher/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <limits>

#include "kernels/device/error.h"
#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::array<std::int32_t, 256> byte_tokens(const Vocabulary& vocabulary) {
  std::array<std::int32_t, 256> tokens = {};
  for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
    const std::string symbol = byte_symbol(static_cast<unsigned char>(byte));
    const auto added = std::ranges::find(vocabulary.added, symbol, &AddedToken::text);
    const bool only_added =
        added != vocabulary.added.end() && added->id >= vocabulary.words_end;  // no merge knows it
    tokens[byte] = only_added ? -1 : vocabulary.find(symbol);
    if (tokens[byte] < 0 && vocabulary.unknown < 0 && !vocabulary.drops_bytes) {
      throw InputError(
          fmt::format("the vocabulary has neither the token \"{}\" of byte 0x{:02x} nor an "
                      "unk_token; it is no byte-level vocabulary, or is cut short",
                      symbol, byte));
    }
  }
  return tokens;
}

}  // namespace

/// Words of one text that were seen before, with their places in its ids. Each call of encode() has
/// its own, so threads share nothing. Bounded, so that a hostile text cannot fill the memory.
class Tokenizer::WordCache {
 public:
  struct Place {
    std::size_t begin = 0;
    std::size_t count = 0;
  };

  const Place* find(std::string_view word) const {
    const auto found = places_.find(word);
    return found == places_.end() ? nullptr : &found->second;
  }
  void add(std::string_view word, Place place) {
    if (word.size() <= kMaxWordBytes && places_.size() < kMaxWords) places_.emplace(word, place);
  }
  /// Keeps a text that is no part of the input, so that its words can be added.
  std::string_view keep(std::string text) { return kept_.emplace_back(std::move(text)); }

 private:
  static constexpr std::size_t kMaxWordBytes = 64;
  static constexpr std::size_t kMaxWords = 1 << 18;
  std::deque<std::string> kept_;
  std::unordered_map<std::string_view, Place> places_;
};

Tokenizer Tokenizer::open(const std::filesystem::path& model_folder) {
  try {
    return Tokenizer(read_vocabulary(model_folder));
  } catch (const std::filesystem::filesystem_error& problem) {
    throw InputError(fmt::format("cannot read the tokenizer: {}", problem.what()));
  }
}

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)),
      added_(vocabulary_.added),
      pairs_(byte_tokens(vocabulary_), {.unknown = vocabulary_.unknown,
                                        .fuse_unknown = vocabulary_.fuses_unknown,
                                        .merge_in_rounds = vocabulary_.merges_in_rounds}),
      splitter_({.removed = vocabulary_.removed,
                 .single_digits = vocabulary_.single_digits,
                 .words = vocabulary_.splits_words}),
      bytes_(static_cast<std::size_t>(vocabulary_.size)),
      special_(static_cast<std::size_t>(vocabulary_.size)) {
  for (const Vocabulary::Merge& merge : vocabulary_.merges) {
    if (!pairs_.add(merge.left, merge.right, merge.product)) {
      throw InputError(
          "the merges of the tokenizer have the same pair twice; merges.txt is damaged");
    }
  }
  for (const auto& [token, id] : vocabulary_.ids) {
    // Only an added token can have characters outside the bytes' alphabet. It is its own text.
    bytes_[static_cast<std::size_t>(id)] = bytes_of_symbols(token).value_or(token);
  }
  for (const AddedToken& added : vocabulary_.added) {
    // Hugging Face's older tokenizers keep an added token's text; tokenizer.json's reads it as
    // bytes.
    if (vocabulary_.added_as_text) bytes_[static_cast<std::size_t>(added.id)] = added.text;
    special_[static_cast<std::size_t>(added.id)] = added.special;
  }
}

bool Tokenizer::has_files(const std::filesystem::path& model_folder) {
  return has_file(model_folder, "tokenizer.json") || has_file(model_folder, "vocab.json");
}

Tokenizer Tokenizer::of_ids(std::int32_t table_size, std::int32_t bos, std::int32_t eos,
                            std::int32_t pad) {
  Vocabulary vocabulary;
  vocabulary.table_size = table_size;
  vocabulary.bos = bos;
  vocabulary.eos = eos;
  vocabulary.pad = pad;
  vocabulary.unknown = 0;  // what bytes would come to; encode() refuses before
  Tokenizer tokenizer(std::move(vocabulary));
  tokenizer.has_text_ = false;
  return tokenizer;
}

void Tokenizer::append_words(std::string_view text, WordCache& cache,
                             std::vector<std::int32_t>& ids) const {
  const auto append_word = [&](std::string_view word) {
    const std::size_t begin = ids.size();
    if (const WordCache::Place* seen = cache.find(word)) {
      const WordCache::Place place = *seen;
      ids.resize(begin + place.count);
      std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(place.begin), place.count,
                  ids.begin() + static_cast<std::ptrdiff_t>(begin));
      return;
    }
    pairs_.append_tokens(word, ids);
    cache.add(word, {begin, ids.size() - begin});
  };
  splitter_.cut(text, [&](std::string_view piece) {
    const bool prefixed = vocabulary_.prefix_space && !piece.starts_with(' ');
    splitter_.split(prefixed ? cache.keep(' ' + std::string(piece)) : piece, append_word);
  });
}

void Tokenizer::append_added(std::int32_t id, std::vector<std::int32_t>& ids) const {
  if (id >= table_size()) {
    throw InputError(fmt::format(
        "the text has the added token \"{}\", whose id {} is beyond the model's vocab_size {}; "
        "take it out of the text",
        bytes_[static_cast<std::size_t>(id)], id, table_size()));
  }
  ids.push_back(id);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 3) {
    throw InputError(
        fmt::format("a text of {} bytes is too long to be tokenized at once; cut it", text.size()));
  }
  if (!has_text_) {
    throw InputError(
        "the model folder has no tokenizer (tokenizer.json, or vocab.json with merges.txt); give "
        "prompts as token ids, or add these files");
  }
  std::vector<std::int32_t> ids;
  if (add_special) ids = vocabulary_.prefix;
  std::string mended;
  if (!is_valid_utf8(text)) {
    mended = replace_broken(text);
    text = mended;
  }
  WordCache cache;
  added_.cut(
      text, [&](std::string_view piece) { append_words(piece, cache, ids); },
      [&](std::int32_t id) { append_added(id, ids); });
  if (add_special) {
    ids.insert(ids.end(), vocabulary_.suffix.begin(), vocabulary_.suffix.end());
  }
  return ids;
}

const std::string& Tokenizer::token_bytes(std::int32_t id) const {
  static const std::string kNothing;
  if (id < 0 || id >= table_size()) {
    throw InputError(
        fmt::format("the token id {} is outside the vocabulary of {} tokens", id, table_size()));
  }
  return id < size() ? bytes_[static_cast<std::size_t>(id)] : kNothing;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < size() && special_[static_cast<std::size_t>(id)];
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) {
    const std::string& token = token_bytes(id);
    if (!(skip_special && is_special(id))) bytes.append(token);
  }
  return replace_broken(bytes);
}

}  // namespace sluice::launcher
