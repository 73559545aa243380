#include "stage/grammar_rows.h"

#include <algorithm>

#include "grammar/program.h"
#include "kernels/device/error.h"
#include "stage/sample_rows.h"

namespace sluice::stage {

GrammarRows::GrammarRows(const grammar::TokenTrie* trie, std::int32_t slots) {
  if (slots == 0) return;
  if (trie == nullptr) {
    throw ConfigError("rows have grammars, but the last stage was given no vocabulary");
  }
  grammars_.emplace(*trie, kGrammarRoom);
  places_.resize(static_cast<std::size_t>(slots));
  nothing_.assign(trie->mask_words(), 0);
}

void GrammarRows::take(const Pass& pass) {
  std::span<const std::byte> left(pass.grammar_bytes);
  for (const PassGrammar& one : pass.grammars) {
    const auto bytes = left.first(static_cast<std::size_t>(one.bytes));
    left = left.subspan(bytes.size());
    grammars_->define(one.number, grammar::decode(bytes));
  }
  for (const PassRow& row : pass.rows) {
    if (row.starts && grammars_) places_[static_cast<std::size_t>(row.slot)] = {};
  }
}

std::span<const std::uint32_t> GrammarRows::allowed(const PassRow& row, std::int32_t ahead,
                                                    std::span<const std::int32_t> history) {
  if (row.grammar < 0) return {};
  const std::int64_t answered =
      std::max<std::int64_t>(sampled_position(row, ahead) - row.sampling.answer_begin, 0);
  if (answered > static_cast<std::int64_t>(history.size())) {
    throw CommError("a row with a grammar has lost tokens of its answer; this is a bug in sluice");
  }
  // Guesses may be wrong: the row's own place stays before them.
  grammar::Place& sure = places_[static_cast<std::size_t>(row.slot)];
  const bool is_sure = ahead == row.drafted;
  const auto allowed = grammars_->allowed(
      row.grammar, history.last(static_cast<std::size_t>(answered)), is_sure ? sure : guessed_);
  if (is_sure) guessed_ = sure;
  return allowed.empty() ? std::span<const std::uint32_t>(nothing_) : allowed;
}

}  // namespace sluice::stage
