#include "launcher/tokenizer/symbols.h"

#include <algorithm>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {

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
  if (options_.word_starts.empty()) return text.size();
  char32_t previous = first_character(text);
  std::size_t at = first_part(text).bytes;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    char32_t character = lead;
    std::size_t bytes = 1;
    if (lead >= 0x80) {
      character = first_character(text.substr(at));
      bytes = first_part(text.substr(at)).bytes;
    }
    if (character != previous && std::ranges::count(options_.word_starts, character) > 0) return at;
    previous = character;
    at += bytes;
  }
  return at;
}

}  // namespace sluice::launcher
