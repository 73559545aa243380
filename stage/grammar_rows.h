// What grammars allow the rows of a pass to say next, on the last stage.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "grammar/grammars.h"
#include "stage/pass.h"

namespace sluice::stage {

/// Host memory that automata and masks may take.
constexpr std::uint64_t kGrammarRoom = std::uint64_t{32} << 20;

class GrammarRows {
 public:
  /// `trie` is of the model's vocabulary and must outlive it. `slots` 0: no row has a grammar, and
  /// `trie` may be null.
  GrammarRows(const grammar::TokenTrie* trie, std::int32_t slots);

  /// The grammars that come with a pass. Before allowed() of its rows.
  void take(const Pass& pass);
  /// The tokens that a row of the pass may go on with before its last `ahead` guesses, as
  /// kernels::SampleLists has them; empty: the row has no grammar. A row's calls come in its order.
  /// `history`: the row's tokens up to there, of which the last are its answer's. Where no token is
  /// allowed all bits are 0. Valid until the next call.
  std::span<const std::uint32_t> allowed(const PassRow& row, std::int32_t ahead,
                                         std::span<const std::int32_t> history);

 private:
  std::optional<grammar::Grammars> grammars_;  // none: no row has one
  std::vector<grammar::Place> places_;         // by slot
  grammar::Place guessed_;                     // of the last row, behind guesses of it
  grammar::Mask nothing_;
};

}  // namespace sluice::stage
