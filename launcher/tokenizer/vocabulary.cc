#include "launcher/tokenizer/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/tokenizer/gguf_vocabulary.h"
#include "launcher/tokenizer/sentence_piece_model.h"
#include "launcher/tokenizer/utf8.h"
#include "offload/checkpoint/input_file.h"

namespace sluice::launcher {
namespace {

// Bounds on memory, far above any vocabulary in use.
constexpr std::int64_t kMaxTokens = 1 << 22;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{256} << 20;

void check_ids(const std::string& where, const Vocabulary& vocabulary) {
  if (vocabulary.ids.empty()) throw InputError(where + " has no tokens");
  std::vector<const std::string*> owners(static_cast<std::size_t>(vocabulary.size));
  for (const auto& [token, id] : vocabulary.ids) {
    const std::string*& owner = owners[static_cast<std::size_t>(id)];
    if (owner != nullptr) {
      throw InputError(fmt::format("{} gives the id {} to two tokens, \"{}\" and \"{}\"", where, id,
                                   std::min(*owner, token), std::max(*owner, token)));
    }
    owner = &token;
  }
}

}  // namespace

bool has_file(const std::filesystem::path& folder, const char* name) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(folder / name, error));
}

std::string read_tokenizer_file(const std::filesystem::path& path) {
  return offload::read_text_file(path, kMaxFileBytes);
}

void add_token(const std::string& token, std::int64_t id, const std::string& where,
               Vocabulary& vocabulary) {
  if (id < 0 || id >= kMaxTokens) {
    throw InputError(fmt::format("{} gives the token \"{}\" the id {}; ids go from 0 to {}", where,
                                 token, id, kMaxTokens - 1));
  }
  const auto narrow = static_cast<std::int32_t>(id);
  const auto [found, added] = vocabulary.ids.emplace(token, narrow);
  if (!added && found->second != narrow) {
    throw InputError(
        fmt::format("{} gives the token \"{}\" the id {}, but it has the id {} already", where,
                    token, id, found->second));
  }
  vocabulary.size = std::max(vocabulary.size, narrow + 1);
}

Json parse_tokenizer_json(const std::string& text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const JsonError& problem) {
    const bool syntax = problem.kind() == JsonError::Kind::syntax;
    throw InputError(fmt::format("{}{}: {}", where, syntax ? " is no JSON" : "", problem.what()));
  }
}

void read_token_ids(const Json& table, const std::string& where, Vocabulary& vocabulary) {
  if (!table.is_object()) throw InputError(where + " is no flat object of tokens and ids");
  for (const auto& [token, id] : table.items()) {
    if (!id.is_integer_in(INT64_MIN, INT64_MAX)) {
      throw InputError(
          fmt::format("{} gives the token \"{}\" the id {}, which is no integer in range", where,
                      token, id.dump()));
    }
    add_token(token, id.integer(), where, vocabulary);
  }
  check_ids(where, vocabulary);
  vocabulary.words = static_cast<std::int32_t>(vocabulary.ids.size());
  vocabulary.words_end = vocabulary.size;
}

void add_merge(const std::string& left, const std::string& right, const std::string& where,
               Vocabulary& vocabulary) {
  const Vocabulary::Merge merge = {vocabulary.find(left), vocabulary.find(right),
                                   vocabulary.find(left + right), false};
  const auto require = [&](std::int32_t id, const std::string& token) {
    if (id >= 0) return;
    throw InputError(
        fmt::format("{} merges \"{}\" and \"{}\", but the vocabulary has no token \"{}\"; "
                    "vocabulary and merges must come from the same model",
                    where, left, right, token));
  };
  require(merge.left, left);
  require(merge.right, right);
  require(merge.product, left + right);
  vocabulary.merges.push_back(merge);
}

void read_merges(const std::string& text, const std::string& where, Vocabulary& vocabulary) {
  std::size_t at = 0;
  for (std::int64_t number = 1; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (number == 1 && line.starts_with("#version")) continue;
    const std::string place = fmt::format("{}, line {}", where, number);
    if (line.empty() && at >= text.size()) break;
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == line.size() ||
        line.find(' ', blank + 1) != std::string_view::npos || !is_valid_utf8(line)) {
      throw InputError(place + " is not two tokens with one blank between them");
    }
    add_merge(std::string(line.substr(0, blank)), std::string(line.substr(blank + 1)), place,
              vocabulary);
  }
}

void add_added_token(const AddedToken& token, const std::string& where, Vocabulary& vocabulary) {
  if (token.text.empty()) throw InputError(where + " has a special token without text");
  if (token.id >= 0) {
    if (vocabulary.find(token.text) < 0) vocabulary.only_added.insert(token.id);
    add_token(token.text, token.id, where, vocabulary);
  } else if (vocabulary.find(token.text) < 0) {
    throw InputError(
        fmt::format("{} names \"{}\" as a special token, but the vocabulary has no such "
                    "token",
                    where, token.text));
  }
  const auto [place, fresh] = vocabulary.added_places.emplace(token.text, vocabulary.added.size());
  if (fresh) vocabulary.added.emplace_back().special = false;
  AddedToken& known = vocabulary.added[place->second];
  const bool special = known.special;
  known = token;
  known.id = vocabulary.find(token.text);
  known.special = token.special || special;
  vocabulary.last_added = std::max(vocabulary.last_added, known.id);
}

std::int32_t next_added_id(const Vocabulary& vocabulary) {
  return std::max(vocabulary.words, vocabulary.last_added + 1);
}

Vocabulary read_vocabulary(const std::filesystem::path& folder) {
  if (offload::is_gguf(folder)) return read_gguf_vocabulary(folder);
  Vocabulary vocabulary;
  const bool newer = has_file(folder, "tokenizer.json");
  if (newer) {
    const std::string path = (folder / "tokenizer.json").string();
    read_tokenizer_json(read_tokenizer_file(path), path, vocabulary);
  } else if (has_file(folder, "vocab.json")) {
    const std::string vocab = (folder / "vocab.json").string();
    vocabulary.source = vocab;
    const std::string merges = (folder / "merges.txt").string();
    read_token_ids(parse_tokenizer_json(read_tokenizer_file(vocab), vocab), vocab, vocabulary);
    read_merges(read_tokenizer_file(merges), merges, vocabulary);
  } else if (const auto file = sentence_piece_file(folder); !file.empty()) {
    SentencePieceModel::read(file.string(), vocabulary);
  } else {
    throw InputError(fmt::format(
        "{} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt nor "
        "tokenizer.model is there; copy them from the model's own folder",
        folder.string()));
  }
  read_settings(folder, newer, vocabulary);
  check_ids(folder.string(), vocabulary);
  return vocabulary;
}

}  // namespace sluice::launcher
