// What the files of a tokenizer say: tokens, merges and special tokens, checked, in plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "launcher/json/json.h"
#include "launcher/tokenizer/steps.h"

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
  bool in_text = true;       // looked for at all; false: texts can only spell it
};

struct Vocabulary {
  enum class Kind : std::uint8_t {
    bytes,           // byte pairs over bytes
    characters,      // byte pairs over characters
    unigram,         // the likeliest tokens
    sentence_piece,  // a file of the SentencePiece library
  };
  Kind kind = Kind::bytes;
  std::string source;  // the file that the tokens are from

  std::unordered_map<std::string, std::int32_t> ids;  // by the token as the file writes it
  std::unordered_set<std::int32_t> only_added;        // ids of `ids` that the model does not know
  std::int32_t size = 0;                              // one more than the highest id
  std::int32_t words = 0;                             // tokens of `ids` without the added ones
  std::int32_t words_end = 0;                         // one more than the highest id of those
  struct Merge {
    std::int32_t left = -1;
    std::int32_t right = -1;
    std::int32_t product = -1;
    bool same_rank = false;  // as the one before: of those the leftmost in a text comes first
  };
  std::vector<Merge> merges;  // by rank
  std::vector<AddedToken> added;
  std::int32_t bos = -1;  // -1: there is none
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  std::int32_t unknown = -1;  // stands for a byte or character that has no token of its own
  /// Where there is no `unknown` either, they are left out, not refused (tokenizer.json).
  bool drops_unknown = false;
  bool fuses_unknown = false;        // neighbouring ones become one `unknown`
  bool byte_fallback = false;        // characters without a token become bytes: <0x0A>
  bool ignores_merges = false;       // a piece that is a token as it is needs no merges
  bool merges_in_rounds = true;      // Merges
  std::vector<double> scores;        // unigram: log-probability by id
  bool added_as_text = true;         // added tokens decode to their text; false: by the decoder
  std::vector<std::int32_t> prefix;  // ids in front of every text: BOS
  std::vector<std::int32_t> suffix;  // and behind it
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer = {{}};  // words by GPT-2's pattern
  std::vector<DecoderStep> decoder = {{}};             // bytes
  std::int32_t table_size = 0;  // config.json's vocab_size: rows of the embedding
  std::unordered_map<std::string, std::size_t> added_places;  // in `added`, by text
  std::int32_t last_added = -1;                               // the highest id of `added`

  std::int32_t find(const std::string& token) const {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  }
};

/// Of a GGUF file: its own metadata. Of a folder: reads tokenizer.json, or vocab.json and
/// merges.txt where it is absent, or a SentencePiece model where that is all: a folder that has
/// several may hold stale older files. Then reads tokenizer_config.json, special_tokens_map.json,
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
/// tokenizer.json. What cannot be followed exactly is refused by name.
void read_tokenizer_json(const std::string& text, const std::string& where, Vocabulary& vocabulary);
/// The settings files of `folder` that are there. `newer`: the tokens came from tokenizer.json.
void read_settings(const std::filesystem::path& folder, bool newer, Vocabulary& vocabulary);
/// Adds an added token. One that is there already takes the fields of `token`, but stays special.
/// Throws InputError if the token has no id, or another one already.
void add_added_token(const AddedToken& token, const std::string& where, Vocabulary& vocabulary);
/// The id that Hugging Face gives to an added token that the vocabulary lacks.
std::int32_t next_added_id(const Vocabulary& vocabulary);

}  // namespace sluice::launcher
