// Text to token ids and back, exactly as Hugging Face's `tokenizers` do it.
//
// Added tokens such as `</s>` are cut out of the text first. The rest is normalized, cut into
// pieces by the pre-tokenizer, and the model turns each piece into tokens. The decoder says what
// text each token stands for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/tokenizer/added_tokens.h"
#include "launcher/tokenizer/decoder.h"
#include "launcher/tokenizer/model.h"
#include "launcher/tokenizer/normalizer.h"
#include "launcher/tokenizer/pre_tokenizer.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {

/// Immutable after open(): any thread may use it.
class Tokenizer {
 public:
  /// A folder, or a GGUF file: see read_vocabulary. Throws InputError naming file and line, or the
  /// token.
  static Tokenizer open(const std::filesystem::path& model_folder);
  explicit Tokenizer(Vocabulary vocabulary);

  /// The model folder has tokenizer files: tokenizer.json, vocab.json, or a file of SentencePiece;
  /// a GGUF file has a vocabulary.
  static bool has_files(const std::filesystem::path& model_folder);
  /// For a model without tokenizer files, whose prompts are token ids. Every id decodes to an empty
  /// text, and encode() throws an InputError that names the missing files.
  static Tokenizer of_ids(std::int32_t table_size, std::int32_t bos, std::int32_t eos,
                          std::int32_t pad);

  /// Token ids of `text`. With `add_special`, the tokens that the model has around every text are
  /// added: BOS in front for OPT, none for Galactica. Broken UTF-8 counts as U+FFFD per maximal
  /// broken part. Linear but for words of many bytes, which take n log n. Throws InputError for a
  /// text of more than 700 MB, for an added token that the model's embedding lacks, and where the
  /// tokenizer's pattern needs too much backtracking.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special = true) const;

  /// The tokens' text, with U+FFFD for broken UTF-8. Ids from size() to table_size() have no token
  /// and decode to nothing. Throws InputError for ids outside the table.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special) const;

  /// The bytes that one token adds to a text that other tokens have begun: any part of a character,
  /// or of several. Throws as decode() does.
  const std::string& token_bytes(std::int32_t id) const;
  /// The same for the first token of a text.
  const std::string& first_token_bytes(std::int32_t id) const;
  /// A token such as <0x0A>: see text_of_bytes.
  bool is_byte(std::int32_t id) const { return id >= 0 && id < size() && bytes_[index(id)]; }
  /// Ids may leave gaps. An id without a token does not begin a text.
  bool has_token(std::int32_t id) const { return id >= 0 && id < size() && known_[index(id)]; }
  /// A special token: left out by decode(skip_special).
  bool is_special(std::int32_t id) const;
  /// Says what is left out where a text begins.
  const Decoder& decoder() const { return decoder_; }

  std::int32_t size() const { return vocabulary_->size; }
  /// Rows of the model's embedding (config.json's vocab_size), of which the last may have no token.
  std::int32_t table_size() const { return vocabulary_->table_size; }
  std::int32_t bos() const { return vocabulary_->bos; }  // -1: there is none
  std::int32_t eos() const { return vocabulary_->eos; }
  std::int32_t pad() const { return vocabulary_->pad; }

  /// What was read, for people who look why ids differ.
  const Vocabulary& vocabulary() const { return *vocabulary_; }

 private:
  static std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }
  void set_texts();
  void set_text(std::int32_t id, const std::string& token);
  void check_id(std::int32_t id) const;
  void append_added(std::int32_t id, std::vector<std::int32_t>& ids) const;

  std::unique_ptr<const Vocabulary> vocabulary_;
  std::unique_ptr<const Normalizer> normalizer_;  // null: texts stay as they are
  AddedTokens added_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;  // null: a text is one piece
  std::unique_ptr<const Model> model_;                 // null: of_ids()
  Decoder decoder_;
  std::unique_ptr<Workspaces> workspaces_;
  std::vector<std::string> texts_;                             // by id
  std::unordered_map<std::int32_t, std::string> first_texts_;  // where they differ
  std::vector<bool> known_;                                    // by id
  std::vector<bool> bytes_;                                    // by id
  std::vector<bool> special_;                                  // by id
};

}  // namespace sluice::launcher
