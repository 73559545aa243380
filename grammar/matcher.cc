#include "grammar/matcher.h"

#include <algorithm>
#include <utility>

namespace sluice::grammar {
namespace {

std::uint64_t pair_of(std::int32_t high, std::int32_t low) {
  return std::uint64_t{static_cast<std::uint32_t>(high)} << 32 | static_cast<std::uint32_t>(low);
}

/// What a node of a hash table takes beside its value.
constexpr std::size_t kNodeBytes = 4 * sizeof(void*);

}  // namespace

Matcher::Matcher(Program program) : program_(std::move(program)) { make_classes(); }

void Matcher::make_classes() {
  std::array<bool, 257> begins = {};
  begins[0] = true;
  for (const Edge& edge : program_.edges) {
    if (edge.kind != Edge::Kind::bytes) continue;
    begins[edge.low] = true;
    begins[edge.high + 1U] = true;
  }
  for (std::size_t byte = 0; byte < classes_.size(); ++byte) {
    if (begins[byte]) sample_.push_back(static_cast<std::uint8_t>(byte));
    classes_[byte] = static_cast<std::uint8_t>(sample_.size() - 1);
  }
}

void Matcher::forget() {
  returns_.clear();
  return_numbers_.clear();
  sets_.clear();
  next_.clear();
  numbers_.clear();
  start_ = kUnknown;
  memory_bytes_ = 0;
}

std::int32_t Matcher::return_to(std::int32_t state, std::int32_t below) {
  // A rule that has nothing left to do is not come back to, so that lists take no stack.
  const std::span<const Edge> rest = program_.edges_of(state);
  if (rest.empty()) return below;
  const auto [found, added] = return_numbers_.try_emplace(
      pair_of(state, below), static_cast<std::int32_t>(returns_.size()));
  if (added) {
    returns_.push_back({state, below});
    memory_bytes_ += sizeof(Return) + sizeof *found + kNodeBytes;
  }
  return found->second;
}

Matcher::State Matcher::start() {
  if (start_ != kUnknown) return start_;
  open_.assign(1, {program_.rule_starts.front(), -1});
  start_ = closed();
  return start_;
}

Matcher::State Matcher::next_by_class(State state, std::uint8_t byte_class) {
  if (state < 0) return kDead;
  const std::size_t place = index(state) * sample_.size() + byte_class;
  if (next_[place] != kUnknown) return next_[place];
  const std::uint8_t byte = sample_[byte_class];
  open_.clear();
  for (const Configuration& one : sets_[index(state)].configurations) {
    for (const Edge& edge : program_.edges_of(one.state)) {
      if (edge.kind != Edge::Kind::bytes || byte < edge.low || byte > edge.high) continue;
      open_.push_back({edge.target, one.below});
    }
  }
  const State behind = open_.empty() ? kDead : closed();
  next_[place] = behind;
  return behind;
}

Matcher::State Matcher::closed() {
  Set set;
  seen_.clear();
  while (!open_.empty()) {
    const Configuration one = open_.back();
    open_.pop_back();
    if (!seen_.try_emplace(pair_of(one.state, one.below), true).second) continue;
    if (seen_.size() > kMostStacks) {
      too_ambiguous_ = true;
      return kDead;
    }
    expand(one, set);
  }
  std::ranges::sort(set.configurations);
  return numbered(std::move(set));
}

void Matcher::expand(const Configuration& one, Set& set) {
  const std::span<const Edge> edges = program_.edges_of(one.state);
  if (edges.empty()) {
    if (one.below < 0) {
      set.may_end = true;
    } else {
      const Return back = returns_[index(one.below)];
      open_.push_back({back.state, back.below});
    }
    return;
  }
  bool reads = false;
  for (const Edge& edge : edges) {
    if (edge.kind == Edge::Kind::bytes) {
      reads = true;
    } else if (edge.kind == Edge::Kind::nothing) {
      open_.push_back({edge.target, one.below});
    } else {
      open_.push_back({program_.rule_starts[index(edge.rule)], return_to(edge.target, one.below)});
    }
  }
  if (reads) set.configurations.push_back(one);
}

Matcher::State Matcher::numbered(Set set) {
  std::uint64_t hash = set.may_end ? 1 : 0;
  for (const Configuration& one : set.configurations) {
    hash = (hash ^ pair_of(one.state, one.below)) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29;
  }
  const auto [begin, end] = numbers_.equal_range(hash);
  for (auto found = begin; found != end; ++found) {
    const Set& known = sets_[index(found->second)];
    if (known.may_end == set.may_end && known.configurations == set.configurations) {
      return found->second;
    }
  }
  const auto number = static_cast<State>(sets_.size());
  memory_bytes_ += sizeof(Set) + set.configurations.size() * sizeof(Configuration) +
                   sample_.size() * sizeof(State) + sizeof hash + sizeof number + kNodeBytes;
  sets_.push_back(std::move(set));
  next_.resize(next_.size() + sample_.size(), kUnknown);
  numbers_.emplace(hash, number);
  return number;
}

}  // namespace sluice::grammar
