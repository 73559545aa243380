#include "launcher/tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"
#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMaxTokenBytes = 1024;  // bounds the work at each place of a text

/// Where the white space at the end of `text` begins.
std::size_t begin_of_blanks(std::string_view text) {
  while (!text.empty() && is_white_space(first_character(last_part(text)))) {
    text.remove_suffix(last_part(text).size());
  }
  return text.size();
}

/// Bytes of white space that `text` begins with.
std::size_t leading_blanks(std::string_view text) {
  const std::size_t bytes = text.size();
  while (!text.empty() && is_white_space(first_character(text))) {
    text.remove_prefix(first_part(text).bytes);
  }
  return bytes - text.size();
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens, const Normalizer* normalizer)
    : normalizer_(normalizer) {
  for (const AddedToken& token : tokens) {
    if (token.special) add(token);  // of two tokens that are one when normalized the first counts
  }
  for (const AddedToken& token : tokens) {
    if (!token.special) add(token);
  }
}

void AddedTokens::add(AddedToken token) {
  if (!token.in_text) return;
  const std::string text = token.text;
  if (token.normalized && normalizer_ != nullptr) normalizer_->apply(token.text);
  if (token.text.empty()) {
    throw InputError(
        fmt::format("the normalizer leaves nothing of the added token \"{}\"; set its "
                    "\"normalized\" to false",
                    text));
  }
  if (token.text.size() > kMaxTokenBytes) {
    throw InputError(fmt::format("the added token \"{}...\" has {} bytes; at most {} are allowed",
                                 replace_broken(text.substr(0, 20)), text.size(), kMaxTokenBytes));
  }
  (token.normalized ? normalized_ : raw_).add(token);
}

void AddedTokens::cut(std::string_view text, PieceReceiver piece,
                      FunctionRef<void(std::int32_t)> token) const {
  std::string room;
  const auto normalize = [&](Piece raw) {
    if (normalizer_ != nullptr) {
      room = raw.text;
      normalizer_->apply(room);
      raw.text = room;
    }
    normalized_.cut(raw, piece, token);
  };
  raw_.cut({text, true}, normalize, token);
}

void AddedTokens::Finder::add(const AddedToken& token) {
  std::uint64_t node = 0;
  for (const char byte : token.text) {
    const std::uint64_t key = node << 8 | static_cast<unsigned char>(byte);
    const std::uint64_t* known = children_.find(key);
    if (known != nullptr) {
      node = *known;
      continue;
    }
    node = token_.size();
    token_.push_back(-1);
    children_.put(key, node);
  }
  leads_[static_cast<unsigned char>(token.text.front())] = true;
  if (token_[node] >= 0) return;
  token_[node] = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
}

/// The longest token that `text` begins with.
const AddedToken* AddedTokens::Finder::match(std::string_view text, std::size_t& bytes) const {
  const AddedToken* longest = nullptr;
  std::uint64_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint64_t* next = children_.find(node << 8 | static_cast<unsigned char>(text[i]));
    if (next == nullptr) break;
    node = *next;
    if (token_[node] < 0) continue;
    longest = &tokens_[static_cast<std::size_t>(token_[node])];
    bytes = i + 1;
  }
  return longest;
}

/// The first token at or after `begin`, which becomes its place. Null: there is none.
const AddedToken* AddedTokens::Finder::find(std::string_view text, std::size_t& begin,
                                            std::size_t& bytes) const {
  for (; begin < text.size(); ++begin) {
    if (!leads_[static_cast<unsigned char>(text[begin])]) continue;
    if (const AddedToken* found = match(text.substr(begin), bytes)) return found;
  }
  return nullptr;
}

void AddedTokens::Finder::cut(Piece whole, PieceReceiver piece,
                              FunctionRef<void(std::int32_t)> token) const {
  const std::string_view text = whole.text;
  const auto give = [&](std::size_t begin, std::size_t end) {
    if (begin < end) piece({text.substr(begin, end - begin), whole.first && begin == 0});
  };
  std::size_t done = 0;
  std::size_t at = 0;
  std::size_t bytes = 0;
  std::size_t blanks_end = 0;  // of the white space that a token took last
  while (!tokens_.empty()) {
    const AddedToken* found = find(text, at, bytes);
    if (found == nullptr) break;
    std::size_t begin = at;
    std::size_t end = begin + bytes;
    at = end;  // a match that does not count is passed over as a whole
    if (found->single_word && ((begin > 0 && is_word_character(last_part(text.substr(0, begin)))) ||
                               (end < text.size() && is_word_character(text.substr(end))))) {
      continue;
    }
    // A token of blanks may lie in what the token before has taken with it: it counts all the same,
    // unless it takes blanks before it and nothing is left for it.
    if (found->lstrip) {
      begin = begin > done ? done + begin_of_blanks(text.substr(done, begin - done)) : done;
    }
    if (found->rstrip) {
      if (end >= blanks_end) blanks_end = end + leading_blanks(text.substr(end));
      end = blanks_end;
    }
    give(done, begin);
    if (begin < end) token(found->id);
    done = end;
  }
  give(done, text.size());
}

}  // namespace sluice::launcher
