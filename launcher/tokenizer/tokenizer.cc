#include "launcher/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/tokenizer/byte_pair_model.h"
#include "launcher/tokenizer/gguf_vocabulary.h"
#include "launcher/tokenizer/sentence_piece_model.h"
#include "launcher/tokenizer/unigram_model.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::unique_ptr<const Model> make_model(const Vocabulary& vocabulary) {
  switch (vocabulary.kind) {
    case Vocabulary::Kind::bytes:
    case Vocabulary::Kind::characters:
      return std::make_unique<BytePairModel>(vocabulary);
    case Vocabulary::Kind::unigram:
      return std::make_unique<UnigramModel>(vocabulary);
    case Vocabulary::Kind::sentence_piece:
      return std::make_unique<SentencePieceModel>(vocabulary.source);
  }
  return nullptr;
}

}  // namespace

Tokenizer Tokenizer::open(const std::filesystem::path& model_folder) {
  try {
    return Tokenizer(read_vocabulary(model_folder));
  } catch (const std::filesystem::filesystem_error& problem) {
    throw InputError(fmt::format("cannot read the tokenizer: {}", problem.what()));
  }
}

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::make_unique<const Vocabulary>(std::move(vocabulary))),
      normalizer_(make_normalizer(vocabulary_->normalizer, vocabulary_->source)),
      added_(vocabulary_->added, normalizer_.get()),
      pre_tokenizer_(make_pre_tokenizer(vocabulary_->pre_tokenizer, vocabulary_->source)),
      model_(vocabulary_->size > 0 ? make_model(*vocabulary_) : nullptr),
      decoder_(vocabulary_->decoder, vocabulary_->source),
      workspaces_(std::make_unique<Workspaces>()),
      texts_(index(vocabulary_->size)),
      known_(index(vocabulary_->size)),
      bytes_(index(vocabulary_->size)),
      special_(index(vocabulary_->size)) {
  set_texts();
}

void Tokenizer::set_text(std::int32_t id, const std::string& token) {
  Decoder::TokenText text = decoder_.text_of(token, false);
  Decoder::TokenText first = decoder_.text_of(token, true);
  if (first.bytes != text.bytes) first_texts_.insert_or_assign(id, std::move(first.bytes));
  texts_[index(id)] = std::move(text.bytes);
  known_[index(id)] = true;
  bytes_[index(id)] = text.is_byte;
}

void Tokenizer::set_texts() {
  for (const auto& [token, id] : vocabulary_->ids) set_text(id, token);
  for (const AddedToken& added : vocabulary_->added) {
    special_[index(added.id)] = added.special;
    // Hugging Face's older tokenizers keep an added token's text. tokenizer.json's decodes it, as
    // the normalizer leaves it.
    if (vocabulary_->added_as_text) {
      texts_[index(added.id)] = added.text;
    } else if (added.normalized && normalizer_) {
      std::string text = added.text;
      normalizer_->apply(text);
      set_text(added.id, text);
    }
  }
}

bool Tokenizer::has_files(const std::filesystem::path& model_folder) {
  if (offload::is_gguf(model_folder)) return has_vocabulary(offload::GgufFile(model_folder));
  return has_file(model_folder, "tokenizer.json") || has_file(model_folder, "vocab.json") ||
         !sentence_piece_file(model_folder).empty();
}

Tokenizer Tokenizer::of_ids(std::int32_t table_size, std::int32_t bos, std::int32_t eos,
                            std::int32_t pad) {
  Vocabulary vocabulary;
  vocabulary.table_size = table_size;
  vocabulary.bos = bos;
  vocabulary.eos = eos;
  vocabulary.pad = pad;
  return Tokenizer(std::move(vocabulary));
}

void Tokenizer::append_added(std::int32_t id, std::vector<std::int32_t>& ids) const {
  if (id >= table_size()) {
    throw InputError(fmt::format(
        "the text has the added token \"{}\", whose id {} is beyond the model's vocab_size {}; "
        "take it out of the text",
        texts_[index(id)], id, table_size()));
  }
  ids.push_back(id);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 3) {
    throw InputError(
        fmt::format("a text of {} bytes is too long to be tokenized at once; cut it", text.size()));
  }
  if (!model_) {
    throw InputError(
        "the model has no tokenizer (tokenizer.json, vocab.json with merges.txt, tokenizer.model, "
        "or "
        "the vocabulary of a GGUF file); give prompts as token ids, or add these files");
  }
  std::vector<std::int32_t> ids;
  if (add_special) ids = vocabulary_->prefix;
  std::string mended;
  if (!is_valid_utf8(text)) {
    mended = replace_broken(text);
    text = mended;
  }
  const Workspaces::Lease workspace = workspaces_->lend();
  const auto append = [&](Piece piece) { model_->append_tokens(piece.text, *workspace, ids); };
  added_.cut(
      text,
      [&](Piece piece) {
        if (pre_tokenizer_) {
          pre_tokenizer_->split(piece, append);
        } else {
          append(piece);
        }
      },
      [&](std::int32_t id) { append_added(id, ids); });
  if (add_special) ids.insert(ids.end(), vocabulary_->suffix.begin(), vocabulary_->suffix.end());
  return ids;
}

void Tokenizer::check_id(std::int32_t id) const {
  if (id >= 0 && id < table_size()) return;
  throw InputError(
      fmt::format("the token id {} is outside the vocabulary of {} tokens", id, table_size()));
}

const std::string& Tokenizer::token_bytes(std::int32_t id) const {
  static const std::string kNothing;
  check_id(id);
  return id < size() ? texts_[index(id)] : kNothing;
}

const std::string& Tokenizer::first_token_bytes(std::int32_t id) const {
  const auto found = first_texts_.find(id);
  return found == first_texts_.end() ? token_bytes(id) : found->second;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < size() && special_[index(id)];
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string bytes;
  std::vector<bool> byte_tokens;
  bool first = true;
  for (const std::int32_t id : ids) {
    check_id(id);
    if (skip_special && is_special(id)) continue;
    // Only a text with byte tokens needs to know which bytes are theirs.
    const bool marks = is_byte(id) || !byte_tokens.empty();
    if (marks) byte_tokens.resize(bytes.size(), false);
    bytes += first ? first_token_bytes(id) : token_bytes(id);
    if (marks) byte_tokens.resize(bytes.size(), is_byte(id));
    first = first && !has_token(id);
  }
  std::string text = text_of_bytes(bytes, byte_tokens);
  const std::string& left_out = decoder_.stripped();
  for (std::int64_t i = 0; i < decoder_.strip_count() && text.starts_with(left_out); ++i) {
    text.erase(0, left_out.size());
  }
  return text;
}

}  // namespace sluice::launcher
