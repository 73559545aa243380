// The grammars of the rows under way, and what each allows next: masks over the vocabulary, made
// once for each state and kept as long as there is room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/matcher.h"
#include "grammar/program.h"
#include "grammar/token_trie.h"

namespace sluice::grammar {

/// How far a row has been read, so that only new tokens are. Of one row, and of one Grammars.
struct Place {
  std::int32_t grammar = -1;
  std::uint64_t age = 0;  // of the grammar's automaton
  std::size_t tokens = 0;
  Matcher::State state = Matcher::kDead;
};

struct GrammarCounts {
  std::uint64_t masks = 0;       // asked for
  std::uint64_t masks_made = 0;  // of those: were not there
};

class Grammars {
 public:
  /// Keeps automata and masks in about `most_bytes`; what was not used for the longest goes first.
  /// `trie` must outlive it. One thread.
  Grammars(const TokenTrie& trie, std::size_t most_bytes);
  ~Grammars();

  /// From now on `number` means this program. Rows that still had the number before must not ask
  /// again.
  void define(std::int32_t number, Program program);

  /// What may follow behind `answer`, all tokens of the row's answer so far, which must go on from
  /// those of the last call with this place. Without a place from before: an empty one, also where
  /// the row has tokens already. The mask is valid until the next call. Empty: no token is allowed.
  /// Throws CommError for a number that was never defined.
  std::span<const std::uint32_t> allowed(std::int32_t number, std::span<const std::int32_t> answer,
                                         Place& place);

  const GrammarCounts& counts() const { return counts_; }
  std::size_t memory_bytes() const { return automata_bytes_ + mask_bytes_; }

 private:
  struct Entry {
    std::int32_t grammar = -1;
    Matcher::State state = Matcher::kDead;
    bool any = false;
    Mask mask;
  };
  using Entries = std::list<Entry>;  // the last used first
  struct Grammar {
    explicit Grammar(Program program) : matcher(std::move(program)) {}
    Matcher matcher;
    std::uint64_t age = 0;
    std::size_t counted_bytes = 0;  // in automata_bytes_
    std::unordered_map<Matcher::State, Entries::iterator> masks;
  };

  Grammar& find(std::int32_t number);
  void drop(Entries::iterator entry);
  void forget(Grammar& grammar);
  void count(Grammar& grammar);
  std::span<const std::uint32_t> used(Entries::iterator entry);

  const TokenTrie& trie_;
  const std::size_t most_bytes_;
  std::vector<std::unique_ptr<Grammar>> grammars_;  // by number
  Entries entries_;
  std::size_t mask_bytes_ = 0;
  std::size_t automata_bytes_ = 0;
  std::uint64_t ages_ = 0;
  GrammarCounts counts_;
};

}  // namespace sluice::grammar
