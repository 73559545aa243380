// What the files of a tokenizer say: tokens, merges and special tokens, checked, in plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "launcher/json/json.h"

namespace sluice::launcher {

/// A token that is found in the text as it is written, before anything else is.
struct AddedToken {
  std::string text;
  std::int32_t id = -1;
  bool special = true;  // left out by decode(skip_special)
};

struct Vocabulary {
  std::unordered_map<std::string, std::int32_t> ids;  // by the token as the file writes it
  std::int32_t size = 0;                              // one more than the highest id
  struct Merge {
    std::int32_t left = -1;
    std::int32_t right = -1;
    std::int32_t product = -1;
  };
  std::vector<Merge> merges;  // by rank
  std::vector<AddedToken> added;
  std::int32_t bos = -1;  // -1: there is none
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  std::int32_t unknown = -1;
  bool add_bos = true;          // in front of every text
  bool single_digits = false;   // WordSplitter
  std::int32_t table_size = 0;  // config.json's vocab_size: rows of the embedding; >= size

  std::int32_t find(const std::string& token) const {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  }
};

/// Reads vocab.json and merges.txt, or tokenizer.json where vocab.json is absent; then, where they
/// are there, tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json.
/// Throws InputError naming file and line, or the token.
Vocabulary read_vocabulary(const std::filesystem::path& folder);

// The parts of read_vocabulary. `where` is the file's name for messages.

/// Throws InputError if it is no regular file, cannot be read, or is larger than any tokenizer's.
std::string read_tokenizer_file(const std::filesystem::path& path);

/// Throws InputError for a text that is no JSON, or has a key twice.
Json parse_tokenizer_json(const std::string& text, const std::string& where);
/// vocab.json: {"token": id, ...}.
void read_token_ids(const Json& table, const std::string& where, Vocabulary& vocabulary);
/// Adds a token; throws InputError if the id is out of range or the token has another id already.
void add_token(const std::string& token, std::int64_t id, const std::string& where,
               Vocabulary& vocabulary);
/// Adds a merge; throws InputError unless both parts and their product are tokens.
void add_merge(const std::string& left, const std::string& right, const std::string& where,
               Vocabulary& vocabulary);
/// merges.txt: "left right" per line, by rank.
void read_merges(const std::string& text, const std::string& where, Vocabulary& vocabulary);
/// tokenizer.json, with a BPE model on bytes; other kinds are refused by name.
void read_tokenizer_json(const std::string& text, const std::string& where, Vocabulary& vocabulary);
/// The settings files of `folder` that are there.
void read_settings(const std::filesystem::path& folder, Vocabulary& vocabulary);
/// Adds an added token unless its text is one already. `id` -1: that of the vocabulary's token.
void add_added_token(const std::string& text, std::int64_t id, bool special,
                     const std::string& where, Vocabulary& vocabulary);

}  // namespace sluice::launcher
