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

/// A token that is found in the text as it is written, before the rest is cut into words. The
/// fields are those of Hugging Face's AddedToken.
struct AddedToken {
  std::string text;
  std::int32_t id = -1;      // -1: the id that the vocabulary has for it
  bool special = true;       // left out by decode(skip_special)
  bool single_word = false;  // only where no word character stands beside it
  bool lstrip = false;       // takes the white space before it with it
  bool rstrip = false;       // and behind it
  bool normalized = false;   // looked for only in what the tokens without it have left
};

struct Vocabulary {
  std::unordered_map<std::string, std::int32_t> ids;  // by the token as the file writes it
  std::int32_t size = 0;                              // one more than the highest id
  std::int32_t words = 0;                             // tokens of `ids` without the added ones
  std::int32_t words_end = 0;                         // one more than the highest id of those
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
  std::int32_t unknown = -1;  // stands for a byte that has no token of its own
  /// Bytes without a token and without `unknown` are left out, not refused (tokenizer.json).
  bool drops_bytes = false;
  bool fuses_unknown = false;        // neighbouring bytes without a token become one `unknown`
  bool merges_in_rounds = true;      // BytePairs
  bool added_as_text = true;         // added tokens decode to their text; false: to their bytes
  std::vector<std::int32_t> prefix;  // ids in front of every text: BOS
  std::vector<std::int32_t> suffix;  // and behind it
  std::string removed;               // cut out of every text first; empty: nothing
  bool single_digits = false;        // WordSplitter
  bool splits_words = true;          // WordSplitter
  bool prefix_space = false;         // a blank before every piece that begins with none
  std::int32_t table_size = 0;       // config.json's vocab_size: rows of the embedding

  std::int32_t find(const std::string& token) const {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  }
};

/// Reads tokenizer.json, or vocab.json and merges.txt where it is absent: a folder that has both
/// may hold stale older files. Then reads tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json and config.json, where they are there. Tokens of the vocabulary lie below
/// table_size; added tokens need not. Throws InputError naming file and line, or the token.
Vocabulary read_vocabulary(const std::filesystem::path& folder);

// The parts of read_vocabulary. `where` is the file's name for messages.

/// A link to a file that is not there counts as there, so that opening it says what is missing.
bool has_file(const std::filesystem::path& folder, const char* name);
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
/// The settings files of `folder` that are there. `newer`: the tokens came from tokenizer.json.
void read_settings(const std::filesystem::path& folder, bool newer, Vocabulary& vocabulary);
/// Adds an added token. One that is there already takes the fields of `token`, but stays special.
/// Throws InputError if the token has no id, or another one already.
void add_added_token(const AddedToken& token, const std::string& where, Vocabulary& vocabulary);
/// The id that Hugging Face gives to an added token that the vocabulary lacks.
std::int32_t next_added_id(const Vocabulary& vocabulary);

}  // namespace sluice::launcher
