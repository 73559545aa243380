#include "launcher/tokenizer/byte_pair_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/tokenizer/byte_alphabet.h"
#include "launcher/tokenizer/utf8.h"
#include "launcher/tokenizer/vocabulary.h"

namespace sluice::launcher {
namespace {

/// The token of a byte or character; added tokens are none, since no merge knows them.
std::int32_t learnt_token(const Vocabulary& vocabulary, const std::string& text) {
  const std::int32_t id = vocabulary.find(text);
  return vocabulary.only_added.contains(id) ? -1 : id;
}

std::unique_ptr<const Symbols> byte_symbols(const Vocabulary& vocabulary) {
  std::array<std::int32_t, 256> tokens = {};
  for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
    const std::string symbol = byte_symbol(static_cast<unsigned char>(byte));
    tokens[byte] = learnt_token(vocabulary, symbol);
    if (tokens[byte] >= 0) continue;
    if (vocabulary.byte_fallback) {
      throw InputError(
          fmt::format("the vocabulary lacks the token \"{}\" of byte 0x{:02x}: model.byte_fallback "
                      "is not supported for byte-level BPE",
                      symbol, byte));
    }
    if (vocabulary.unknown < 0 && !vocabulary.drops_unknown) {
      throw InputError(
          fmt::format("the vocabulary has neither the token \"{}\" of byte 0x{:02x} nor an "
                      "unk_token; it is no byte-level vocabulary, or is cut short",
                      symbol, byte));
    }
  }
  return std::make_unique<ByteSymbols>(tokens,
                                       UnknownSymbol{vocabulary.unknown, vocabulary.fuses_unknown});
}

/// See CharacterSymbols. A token without text joins nothing to anything.
std::vector<std::pair<char32_t, char32_t>> joined_characters(const Vocabulary& vocabulary) {
  std::vector<const std::string*> texts(static_cast<std::size_t>(vocabulary.size));
  for (const auto& [text, id] : vocabulary.ids) texts[static_cast<std::size_t>(id)] = &text;
  std::vector<std::pair<char32_t, char32_t>> joined;
  for (const Vocabulary::Merge& merge : vocabulary.merges) {
    const std::string& left = *texts[static_cast<std::size_t>(merge.left)];
    const std::string& right = *texts[static_cast<std::size_t>(merge.right)];
    if (left.empty() || right.empty()) continue;
    joined.emplace_back(first_character(last_part(left)), first_character(right));
  }
  return joined;
}

std::unique_ptr<const Symbols> character_symbols(const Vocabulary& vocabulary) {
  std::vector<std::pair<char32_t, std::int32_t>> tokens;
  for (const auto& [text, id] : vocabulary.ids) {
    if (text.empty() || first_part(text).bytes != text.size()) continue;
    if (!vocabulary.only_added.contains(id)) tokens.emplace_back(first_character(text), id);
  }
  CharacterSymbols::Options options;
  options.unknown = {vocabulary.unknown, vocabulary.fuses_unknown};
  options.byte_tokens.fill(-1);
  for (std::size_t byte = 0; vocabulary.byte_fallback && byte < 256; ++byte) {
    options.byte_tokens[byte] = learnt_token(vocabulary, fmt::format("<0x{:02X}>", byte));
  }
  options.cuts = !vocabulary.ignores_merges;  // which may find a token in the whole piece
  if (options.cuts) options.joined = joined_characters(vocabulary);
  return std::make_unique<CharacterSymbols>(tokens, std::move(options));
}

}  // namespace

BytePairModel::BytePairModel(const Vocabulary& vocabulary)
    : symbols_(vocabulary.kind == Vocabulary::Kind::bytes ? byte_symbols(vocabulary)
                                                          : character_symbols(vocabulary)),
      in_rounds_(vocabulary.merges_in_rounds) {
  for (const Vocabulary::Merge& merge : vocabulary.merges) {
    const bool fresh = merges_.add(merge.left, merge.right, merge.product, merge.same_rank);
    if (!fresh && vocabulary.merges_in_rounds) {
      throw InputError(
          "the merges of the tokenizer have the same pair twice; merges.txt is damaged");
    }
  }
  if (!vocabulary.ignores_merges) return;
  for (const auto& [text, id] : vocabulary.ids) {
    if (vocabulary.only_added.contains(id)) continue;
    std::optional<std::string> piece = text;
    if (vocabulary.kind == Vocabulary::Kind::bytes) piece = bytes_of_symbols(text);
    if (piece) whole_.emplace(*std::move(piece), id);
  }
}

void BytePairModel::append_tokens(std::string_view piece, Workspace& workspace,
                                  std::vector<std::int32_t>& ids) const {
  while (!piece.empty()) {
    const std::size_t bytes = symbols_->first_word_bytes(piece);
    append_word(piece.substr(0, bytes), workspace, ids);
    piece.remove_prefix(bytes);
  }
}

void BytePairModel::append_word(std::string_view word, Workspace& workspace,
                                std::vector<std::int32_t>& ids) const {
  const std::span<const std::int32_t> known = workspace.words.find(word);
  if (!known.empty()) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  std::vector<std::int32_t>& tokens = workspace.symbols;
  tokens.clear();
  const auto whole = whole_.empty() ? whole_.end() : whole_.find(std::string(word));
  if (whole != whole_.end()) {
    tokens.push_back(whole->second);
  } else {
    symbols_->append(word, tokens);
    merges_.apply(tokens, in_rounds_);
  }
  workspace.words.add(word, tokens);
  ids.insert(ids.end(), tokens.begin(), tokens.end());
}

}  // namespace sluice::launcher
