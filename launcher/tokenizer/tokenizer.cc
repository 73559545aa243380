#include "launcher/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
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
    const std::int32_t id = vocabulary.find(symbol);
    tokens[byte] = id >= 0 ? id : vocabulary.unknown;
    if (tokens[byte] < 0) {
      throw InputError(
          fmt::format("the vocabulary has neither the token \"{}\" of byte 0x{:02x} nor an "
                      "unk_token; it is no byte-level vocabulary, or is cut short",
                      symbol, byte));
    }
  }
  return tokens;
}

}  // namespace

/// Words of one text that were seen before, with their places in its ids. Of one call, so that
/// threads share nothing; bounded, so that a hostile text cannot fill the memory.
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

 private:
  static constexpr std::size_t kMaxWordBytes = 64;
  static constexpr std::size_t kMaxWords = 1 << 18;
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
      pairs_(byte_tokens(vocabulary_)),
      splitter_(vocabulary_.single_digits),
      bytes_(static_cast<std::size_t>(vocabulary_.size)),
      special_(static_cast<std::size_t>(vocabulary_.size)) {
  for (const Vocabulary::Merge& merge : vocabulary_.merges) {
    if (!pairs_.add(merge.left, merge.right, merge.product)) {
      throw InputError(
          "the merges of the tokenizer have the same pair twice; merges.txt is damaged");
    }
  }
  for (const auto& [token, id] : vocabulary_.ids) {
    // A token that is not in the bytes' alphabet can only be an added one: it is its own text.
    bytes_[static_cast<std::size_t>(id)] = bytes_of_symbols(token).value_or(token);
  }
  for (const AddedToken& added : vocabulary_.added) {
    bytes_[static_cast<std::size_t>(added.id)] = added.text;
    special_[static_cast<std::size_t>(added.id)] = added.special;
    added_leads_.push_back(added.text.front());
  }
  std::stable_sort(
      vocabulary_.added.begin(), vocabulary_.added.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
}

bool Tokenizer::has_files(const std::filesystem::path& model_folder) {
  return std::filesystem::exists(model_folder / "vocab.json") ||
         std::filesystem::exists(model_folder / "tokenizer.json");
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

/// The first added token at or after `begin`, the longest if several begin there; returns its
/// place.
std::size_t Tokenizer::find_added(std::string_view text, std::size_t begin,
                                  const AddedToken*& found) const {
  found = nullptr;
  while (true) {
    begin = text.find_first_of(added_leads_, begin);
    if (begin == std::string_view::npos) return text.size();
    for (const AddedToken& added : vocabulary_.added) {
      if (text.substr(begin).starts_with(added.text)) {
        found = &added;
        return begin;
      }
    }
    ++begin;
  }
}

void Tokenizer::append_words(std::string_view text, WordCache& cache,
                             std::vector<std::int32_t>& ids) const {
  splitter_.split(text, [&](std::string_view word) {
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
  });
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_bos) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 3) {
    throw InputError(
        fmt::format("a text of {} bytes is too long to be tokenized at once; cut it", text.size()));
  }
  if (!has_text_) {
    throw InputError(
        "the model folder has no tokenizer (vocab.json with merges.txt, or tokenizer.json); give "
        "prompts as token ids, or add these files");
  }
  std::vector<std::int32_t> ids;
  if (add_bos && vocabulary_.add_bos) ids.push_back(vocabulary_.bos);
  std::string mended;
  if (!is_valid_utf8(text)) {
    mended = replace_broken(text);
    text = mended;
  }
  WordCache cache;
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* added = nullptr;
    const std::size_t end = find_added(text, at, added);
    append_words(text.substr(at, end - at), cache, ids);
    at = end;
    if (added == nullptr) continue;
    ids.push_back(added->id);
    at += added->text.size();
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
