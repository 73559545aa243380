#include "launcher/tokenizer/added_tokens.h"

#include <algorithm>
#include <functional>

#include "launcher/tokenizer/utf8.h"
#include "launcher/tokenizer/word_splitter.h"

namespace sluice::launcher {
namespace {

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

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) (token.normalized ? normalized_ : raw_).add(token);
}

void AddedTokens::cut(std::string_view text, const std::function<void(std::string_view)>& piece,
                      const std::function<void(std::int32_t)>& token) const {
  raw_.cut(
      text, [&](std::string_view between) { normalized_.cut(between, piece, token); }, token);
}

void AddedTokens::Finder::add(const AddedToken& token) {
  tokens_.emplace(token.text, token);
  if (std::ranges::count(sizes_, token.text.size()) == 0) sizes_.push_back(token.text.size());
  std::ranges::sort(sizes_, std::greater<>());
  if (leads_.find(token.text.front()) == std::string::npos) leads_.push_back(token.text.front());
}

/// The longest token that `text` begins with.
const AddedToken* AddedTokens::Finder::match(std::string_view text) const {
  for (const std::size_t size : sizes_) {
    if (size > text.size()) continue;
    const auto found = tokens_.find(text.substr(0, size));
    if (found != tokens_.end()) return &found->second;
  }
  return nullptr;
}

/// The first token at or after `begin`, which becomes its place. Null: there is none.
const AddedToken* AddedTokens::Finder::find(std::string_view text, std::size_t& begin) const {
  for (; (begin = text.find_first_of(leads_, begin)) != std::string_view::npos; ++begin) {
    if (const AddedToken* found = match(text.substr(begin))) return found;
  }
  return nullptr;
}

void AddedTokens::Finder::cut(std::string_view text,
                              const std::function<void(std::string_view)>& piece,
                              const std::function<void(std::int32_t)>& token) const {
  std::size_t done = 0;
  std::size_t at = 0;
  while (const AddedToken* found = find(text, at)) {
    std::size_t begin = at;
    std::size_t end = begin + found->text.size();
    at = end;  // a match that does not count is passed over as a whole
    if (found->single_word && ((begin > 0 && is_word_character(last_part(text.substr(0, begin)))) ||
                               (end < text.size() && is_word_character(text.substr(end))))) {
      continue;
    }
    // A token of blanks may lie in what the token before has taken with it: it counts all the same,
    // unless it takes blanks before it and nothing is left for it.
    if (found->lstrip) begin = std::max(begin_of_blanks(text.substr(0, begin)), done);
    if (found->rstrip) end += leading_blanks(text.substr(end));
    if (done < begin) piece(text.substr(done, begin - done));
    if (begin < end) token(found->id);
    done = end;
  }
  if (done < text.size()) piece(text.substr(done));
}

}  // namespace sluice::launcher
