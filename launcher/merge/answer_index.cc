#include "launcher/merge/answer_index.h"

#include <algorithm>
#include <utility>

namespace sluice::launcher {
namespace {

constexpr int kOffsetBits = 48;
constexpr int kKindShift = 62;
constexpr std::uint64_t kOrderMask = (std::uint64_t{1} << kKindShift) - 1;

/// By file and offset.
std::uint64_t order_of(std::uint64_t place) { return place & kOrderMask; }

RecordKind kind_of(std::uint64_t place) { return static_cast<RecordKind>(place >> kKindShift); }

RecordPlace unpacked(std::uint64_t place) {
  return {static_cast<std::uint32_t>(order_of(place) >> kOffsetBits),
          place & ((std::uint64_t{1} << kOffsetBits) - 1)};
}

AnswerIndex::Taken taken_at(std::uint64_t place) {
  return {unpacked(place), kind_of(place) == RecordKind::answer};
}

}  // namespace

RecordKind AnswerIndex::kind_at(std::size_t at) const { return kind_of(entries_[at].place); }

void AnswerIndex::add(const RecordFacts& facts, RecordPlace place) {
  entries_.push_back({facts.key, static_cast<std::uint64_t>(facts.kind) << kKindShift |
                                     static_cast<std::uint64_t>(place.file) << kOffsetBits |
                                     place.offset});
}

void AnswerIndex::sort() {
  std::ranges::sort(entries_, [](const Entry& one, const Entry& other) {
    return std::pair(one.key, order_of(one.place)) < std::pair(other.key, order_of(other.place));
  });
  taken_.assign(entries_.size(), false);
}

AnswerIndex::Group AnswerIndex::group_from(std::size_t begin) const {
  std::size_t end = begin;
  while (end < entries_.size() && entries_[end].key == entries_[begin].key) ++end;
  return {begin, end};
}

AnswerIndex::Group AnswerIndex::group_of(std::uint64_t key) const {
  const auto first = std::ranges::lower_bound(entries_, key, {}, &Entry::key);
  const auto begin = static_cast<std::size_t>(first - entries_.begin());
  const bool found = first != entries_.end() && first->key == key;
  return found ? group_from(begin) : Group(begin, begin);
}

bool AnswerIndex::any_taken(Group group) const {
  for (std::size_t at = group.first; at < group.second; ++at) {
    if (taken_[at]) return true;
  }
  return false;
}

bool AnswerIndex::was_taken(std::uint64_t key) const { return any_taken(group_of(key)); }

/// The record of the first row, of a group that nothing was taken of.
std::optional<std::size_t> AnswerIndex::choose(Group group) const {
  std::optional<std::size_t> error;
  for (std::size_t at = group.first; at < group.second; ++at) {
    if (kind_at(at) == RecordKind::answer) return at;
    if (kind_at(at) == RecordKind::error) error = at;
  }
  return error;
}

std::optional<AnswerIndex::Taken> AnswerIndex::take(std::uint64_t key) {
  const Group group = group_of(key);
  std::optional<std::size_t> chosen;
  if (!any_taken(group)) {
    chosen = choose(group);
  } else {
    for (std::size_t at = group.first; at < group.second && !chosen; ++at) {
      if (!taken_[at] && kind_at(at) == RecordKind::duplicate) chosen = at;
    }
  }
  if (!chosen) return std::nullopt;
  taken_[*chosen] = true;
  return taken_at(entries_[*chosen].place);
}

AnswerIndex::Rest AnswerIndex::rest(std::size_t first_few) const {
  Rest rest;
  const auto note = [&](std::size_t at, std::vector<RecordPlace>& places, std::int64_t& number) {
    ++number;
    if (places.size() < first_few) places.push_back(unpacked(entries_[at].place));
  };
  for (std::size_t begin = 0; begin < entries_.size();) {
    const Group group = group_from(begin);
    const bool known = any_taken(group);
    if (!known) note(begin, rest.foreign, rest.num_foreign);
    for (std::size_t at = begin; known && at < group.second; ++at) {
      const bool left = !taken_[at] && kind_at(at) == RecordKind::answer;
      if (left) note(at, rest.doubles, rest.num_doubles);
    }
    begin = group.second;
  }
  return rest;
}

void AnswerIndex::take_all(const std::function<void(const Taken& taken)>& on_taken) {
  std::vector<std::uint64_t> places;
  places.reserve(entries_.size());
  for (std::size_t begin = 0; begin < entries_.size();) {
    const Group group = group_from(begin);
    const auto first = choose(group);
    for (std::size_t at = begin; at < group.second; ++at) {
      if (at != first && kind_at(at) != RecordKind::duplicate) continue;
      taken_[at] = true;
      places.push_back(entries_[at].place);
    }
    begin = group.second;
  }
  std::ranges::sort(places, {}, order_of);
  for (const std::uint64_t place : places) on_taken(taken_at(place));
}

}  // namespace sluice::launcher
