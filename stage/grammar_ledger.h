// The head's book of grammars: which of them rows under way have, and which the last stage knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "stage/pass.h"
#include "stage/request.h"

namespace sluice::stage {

/// Equal grammars have one number, for as long as a row has it, and longer where no other needs the
/// number. What a number means travels in the first pass of a row with it. So rows with the same
/// schema, of the whole job, send it once.
class GrammarLedger {
 public:
  /// Numbers for so many rows at a time.
  explicit GrammarLedger(std::int32_t slots);

  /// The number of the grammar of a row that starts; -1 for null.
  std::int32_t take(const SharedGrammar& grammar);
  /// The row has ended, and no pass is under way with it.
  void release(std::int32_t number);

  /// Whether a row with this number may be in the pass: the last stage knows what it means, or the
  /// pass has room to say so. Of a pass without grammars: always.
  bool fits(std::int32_t number, const Pass& pass) const;
  /// A row with this number is added to the pass. Pre: fits().
  void send(std::int32_t number, Pass& pass);

 private:
  struct Entry {
    SharedGrammar grammar;
    std::int32_t rows = 0;
    bool sent = false;
    std::uint64_t last_used = 0;
  };

  const Entry& entry(std::int32_t number) const {
    return entries_[static_cast<std::size_t>(number)];
  }
  Entry& entry(std::int32_t number) { return entries_[static_cast<std::size_t>(number)]; }
  std::int32_t find(const SharedGrammar& grammar, std::size_t hash) const;
  std::int32_t free_number();

  std::size_t slots_;
  std::vector<Entry> entries_;  // by number; none more than slots
  std::unordered_multimap<std::size_t, std::int32_t> by_content_;  // hash to number
  std::uint64_t time_ = 0;
};

}  // namespace sluice::stage
