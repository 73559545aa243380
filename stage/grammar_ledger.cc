#include "stage/grammar_ledger.h"

#include <algorithm>
#include <string_view>

#include "grammar/program.h"
#include "kernels/device/error.h"

namespace sluice::stage {
namespace {

std::size_t hash_of(const std::vector<std::byte>& bytes) {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

GrammarLedger::GrammarLedger(std::int32_t slots) : slots_(static_cast<std::size_t>(slots)) {}

std::int32_t GrammarLedger::find(const SharedGrammar& grammar, std::size_t hash) const {
  const auto [begin, end] = by_content_.equal_range(hash);
  for (auto found = begin; found != end; ++found) {
    const SharedGrammar& known = entry(found->second).grammar;
    if (known == grammar || *known == *grammar) return found->second;
  }
  return -1;
}

/// A new one, or that of the grammar which no row has had for the longest.
std::int32_t GrammarLedger::free_number() {
  if (entries_.size() < slots_) {
    entries_.emplace_back();
    return static_cast<std::int32_t>(entries_.size()) - 1;
  }
  const auto oldest = std::ranges::min_element(entries_, {}, [](const Entry& one) {
    return one.rows > 0 ? std::uint64_t{UINT64_MAX} : one.last_used;
  });
  if (oldest == entries_.end() || oldest->rows > 0) {
    throw CommError("more rows have a grammar than are under way; this is a bug in sluice");
  }
  const auto number = static_cast<std::int32_t>(oldest - entries_.begin());
  const auto [begin, end] = by_content_.equal_range(hash_of(*oldest->grammar));
  const auto known =
      std::find_if(begin, end, [number](const auto& one) { return one.second == number; });
  by_content_.erase(known);
  return number;
}

std::int32_t GrammarLedger::take(const SharedGrammar& grammar) {
  if (!grammar) return -1;
  const std::size_t hash = hash_of(*grammar);
  std::int32_t number = find(grammar, hash);
  if (number < 0) {
    number = free_number();
    entry(number) = {grammar};
    by_content_.emplace(hash, number);
  }
  ++entry(number).rows;
  entry(number).last_used = ++time_;
  return number;
}

void GrammarLedger::release(std::int32_t number) {
  if (number >= 0) --entry(number).rows;
}

bool GrammarLedger::fits(std::int32_t number, const Pass& pass) const {
  if (number < 0 || entry(number).sent || pass.grammar_bytes.empty()) return true;
  return pass.grammar_bytes.size() + entry(number).grammar->size() <= grammar::kMostProgramBytes;
}

void GrammarLedger::send(std::int32_t number, Pass& pass) {
  if (number < 0 || entry(number).sent) return;
  const std::vector<std::byte>& bytes = *entry(number).grammar;
  pass.grammars.push_back({number, static_cast<std::int32_t>(bytes.size())});
  pass.grammar_bytes.insert(pass.grammar_bytes.end(), bytes.begin(), bytes.end());
  entry(number).sent = true;
}

}  // namespace sluice::stage
