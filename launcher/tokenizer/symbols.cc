#include "launcher/tokenizer/symbols.h"

#include <algorithm>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr std::uint64_t pair_of(char32_t before, char32_t behind) {
  return std::uint64_t{before} << 32 | behind;
}

}  // namespace

void ByteSymbols::append(std::string_view word, std::vector<std::int32_t>& symbols) const {
  bool fusing = false;
  for (const char byte : word) {
    std::int32_t token = tokens_[static_cast<unsigned char>(byte)];
    const bool unknown = token < 0;
    if (unknown) token = unknown_.id;
    if (token >= 0 && !(unknown && fusing)) symbols.push_back(token);
    fusing = unknown && unknown_.fuse;
  }
}

CharacterSymbols::CharacterSymbols(const std::vector<std::pair<char32_t, std::int32_t>>& tokens,
                                   Options options)
    : options_(std::move(options)) {
  char32_t last = 0;
  for (const auto& [character, token] : tokens) last = std::max(last, character);
  tokens_.assign(tokens.empty() ? 0 : last + 1, -1);
  for (const auto& [character, token] : tokens) tokens_[character] = token;
  for (const auto& [before, behind] : options_.joined) joined_.put(pair_of(before, behind), 0);
  for (char32_t before = 0; before < kPlain; ++before) {
    for (char32_t behind = 0; behind < kPlain; ++behind) {
      plain_cuts_[before][behind] = may_cut(before, behind);
    }
  }
}

/// Neighbours that the vocabulary lacks may become one unknown token.
bool CharacterSymbols::may_cut(char32_t before, char32_t behind) const {
  return token_of(before) >= 0 && token_of(behind) >= 0 &&
         joined_.find(pair_of(before, behind)) == nullptr;
}

bool CharacterSymbols::append_bytes(std::string_view character,
                                    std::vector<std::int32_t>& symbols) const {
  const auto token = [&](char byte) {
    return options_.byte_tokens[static_cast<unsigned char>(byte)];
  };
  if (!std::ranges::all_of(character, [&](char byte) { return token(byte) >= 0; })) return false;
  for (const char byte : character) symbols.push_back(token(byte));
  return true;
}

void CharacterSymbols::append(std::string_view word, std::vector<std::int32_t>& symbols) const {
  const UnknownSymbol unknown = options_.unknown;
  // An unknown character waits for the next known one, as in Hugging Face's loop: bytes of another
  // character that come between the two stand before it.
  bool waiting = false;
  while (!word.empty()) {
    const std::string_view character = word.substr(0, first_part(word).bytes);
    const std::int32_t token = token_of(first_character(word));
    word.remove_prefix(character.size());
    if (token >= 0) {
      if (waiting) symbols.push_back(unknown.id);
      waiting = false;
      symbols.push_back(token);
    } else if (!append_bytes(character, symbols) && unknown.id >= 0) {
      if (waiting && !unknown.fuse) symbols.push_back(unknown.id);
      waiting = true;
    }
  }
  if (waiting) symbols.push_back(unknown.id);
}

std::size_t CharacterSymbols::first_word_bytes(std::string_view text) const {
  if (!options_.cuts) return text.size();
  std::size_t bytes = 0;
  char32_t before = character_at(text, 0, bytes);
  for (std::size_t at = bytes; at < text.size(); at += bytes) {
    const char32_t behind = character_at(text, at, bytes);
    const bool plain = before < kPlain && behind < kPlain;
    if (plain ? plain_cuts_[before][behind] : may_cut(before, behind)) return at;
    before = behind;
  }
  return text.size();
}

}  // namespace sluice::launcher
