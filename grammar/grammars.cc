#include "grammar/grammars.h"

#include <fmt/format.h>

#include <utility>

#include "kernels/device/error.h"

namespace sluice::grammar {

Grammars::Grammars(const TokenTrie& trie, std::size_t most_bytes)
    : trie_(trie), most_bytes_(most_bytes) {}

Grammars::~Grammars() = default;

void Grammars::define(std::int32_t number, Program program) {
  const auto index = static_cast<std::size_t>(number);
  if (index >= grammars_.size()) grammars_.resize(index + 1);
  if (grammars_[index]) forget(*grammars_[index]);
  grammars_[index] = std::make_unique<Grammar>(std::move(program));
  grammars_[index]->age = ++ages_;
}

Grammars::Grammar& Grammars::find(std::int32_t number) {
  const auto index = static_cast<std::size_t>(number);
  if (number < 0 || index >= grammars_.size() || !grammars_[index]) {
    throw CommError(
        fmt::format("a row has the grammar {}, which never came; this is a bug in sluice", number));
  }
  return *grammars_[index];
}

void Grammars::drop(Entries::iterator entry) {
  mask_bytes_ -= entry->mask.size() * sizeof(std::uint32_t);
  grammars_[static_cast<std::size_t>(entry->grammar)]->masks.erase(entry->state);
  entries_.erase(entry);
}

/// Places in it become old, and are read again.
void Grammars::forget(Grammar& grammar) {
  while (!grammar.masks.empty()) drop(grammar.masks.begin()->second);
  grammar.matcher.forget();
  grammar.age = ++ages_;
  count(grammar);
}

void Grammars::count(Grammar& grammar) {
  automata_bytes_ -= grammar.counted_bytes;
  grammar.counted_bytes = grammar.matcher.memory_bytes();
  automata_bytes_ += grammar.counted_bytes;
}

std::span<const std::uint32_t> Grammars::used(Entries::iterator entry) {
  entries_.splice(entries_.begin(), entries_, entry);
  if (!entry->any) return {};
  return entry->mask;
}

std::span<const std::uint32_t> Grammars::allowed(std::int32_t number,
                                                 std::span<const std::int32_t> answer,
                                                 Place& place) {
  Grammar& grammar = find(number);
  ++counts_.masks;
  // Automata may take half of the room; the masks take what is left.
  if (automata_bytes_ > most_bytes_ / 2) {
    for (const auto& one : grammars_) {
      if (one) forget(*one);
    }
  }
  if (place.grammar != number || place.age != grammar.age || place.tokens > answer.size()) {
    place = {number, grammar.age, 0, grammar.matcher.start()};
  }
  for (const std::int32_t token : answer.subspan(place.tokens)) {
    place.state = trie_.next(grammar.matcher, place.state, token);
  }
  place.tokens = answer.size();
  if (const auto found = grammar.masks.find(place.state); found != grammar.masks.end()) {
    return used(found->second);
  }
  ++counts_.masks_made;
  const std::size_t bytes = trie_.mask_words() * sizeof(std::uint32_t);
  while (!entries_.empty() && memory_bytes() + bytes > most_bytes_) {
    drop(std::prev(entries_.end()));
  }
  entries_.push_front({number, place.state, false, Mask(trie_.mask_words())});
  mask_bytes_ += bytes;
  grammar.masks.emplace(place.state, entries_.begin());
  entries_.front().any = trie_.allowed(grammar.matcher, place.state, entries_.front().mask);
  count(grammar);
  return used(entries_.begin());
}

}  // namespace sluice::grammar
