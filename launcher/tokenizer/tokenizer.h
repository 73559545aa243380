// Text to token ids and back, exactly as Hugging Face does it for byte-level BPE.
//
// Added tokens such as `</s>` are cut out of the text first. The rest is cut into words by GPT-2's
// pattern, and each word's bytes are merged by rank. Decoding joins the tokens' bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/tokenizer/added_tokens.h"
#include "launcher/tokenizer/byte_pairs.h"
#include "launcher/tokenizer/vocabulary.h"
#include "launcher/tokenizer/word_splitter.h"

namespace sluice::launcher {

/// Immutable after open(): any thread may use it.
class Tokenizer {
 public:
  /// Files: see read_vocabulary. Throws InputError naming file and line, or the token.
  static Tokenizer open(const std::filesystem::path& model_folder);
  explicit Tokenizer(Vocabulary vocabulary);

  /// The model folder has tokenizer files: tokenizer.json, or vocab.json.
  static bool has_files(const std::filesystem::path& model_folder);
  /// For a model without tokenizer files, whose prompts are token ids. Every id decodes to an empty
  /// text, and encode() throws an InputError that names the missing files.
  static Tokenizer of_ids(std::int32_t table_size, std::int32_t bos, std::int32_t eos,
                          std::int32_t pad);

  /// Token ids of `text`. With `add_special`, the tokens that the model has around every text are
  /// added: BOS in front for OPT, none for Galactica. Broken UTF-8 counts as U+FFFD per maximal
  /// broken part. Linear but for words of many bytes, which take n log n. Throws InputError for a
  /// text of more than 700 MB, and for an added token that the model's embedding lacks.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;

  /// The tokens' bytes, read as UTF-8 with U+FFFD per maximal broken part. Ids from size() to
  /// table_size() have no token and decode to nothing. Throws InputError for ids outside the table.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  /// The bytes of one token: any part of a character, or of several. Throws as decode() does.
  const std::string& token_bytes(std::int32_t id) const;
  /// A special token: left out by decode(skip_special).
  bool is_special(std::int32_t id) const;

  std::int32_t size() const { return vocabulary_.size; }
  /// Rows of the model's embedding (config.json's vocab_size), of which the last may have no token.
  std::int32_t table_size() const { return vocabulary_.table_size; }
  std::int32_t bos() const { return vocabulary_.bos; }  // -1: there is none
  std::int32_t eos() const { return vocabulary_.eos; }
  std::int32_t pad() const { return vocabulary_.pad; }

 private:
  class WordCache;

  void append_words(std::string_view text, WordCache& cache, std::vector<std::int32_t>& ids) const;
  void append_added(std::int32_t id, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  AddedTokens added_;
  BytePairs pairs_;
  WordSplitter splitter_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_;       // by id
  bool has_text_ = true;
};

}  // namespace sluice::launcher
