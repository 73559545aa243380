// Reads a text by a grammar, byte by byte: an automaton whose states are sets of stacks, made as
// they are met and kept, so that what was read once is a look in a table.
// Source: llama.cpp's grammar sampling (sets of stacks); RE2's lazy DFA.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "grammar/program.h"

namespace sluice::grammar {

class Matcher {
 public:
  /// Of this matcher, until forget().
  using State = std::int32_t;
  static constexpr State kDead = -1;  // no text of the grammar begins so

  explicit Matcher(Program program);

  const Program& program() const { return program_; }

  State start();
  /// Behind one more byte. Of kDead: kDead. A state of more than kMostStacks stacks counts as dead:
  /// is_too_ambiguous() says so then.
  State next(State state, std::uint8_t byte) { return next_by_class(state, classes_[byte]); }
  /// What was read is a text of the grammar.
  bool may_end(State state) const { return state >= 0 && sets_[index(state)].may_end; }
  /// ... and no longer text begins so.
  bool must_end(State state) const {
    return may_end(state) && sets_[index(state)].configurations.empty();
  }
  bool is_too_ambiguous() const { return too_ambiguous_; }

  /// Bytes that the grammar does not tell apart have one class.
  std::uint8_t class_of(std::uint8_t byte) const { return classes_[byte]; }
  State next_by_class(State state, std::uint8_t byte_class);

  /// Memory of what was met so far.
  std::size_t memory_bytes() const { return memory_bytes_; }
  /// Lets go of it. All states become invalid.
  void forget();

  static constexpr std::size_t kMostStacks = 2048;

 private:
  /// Where a rule goes on when the one it called has ended.
  struct Return {
    std::int32_t state = 0;
    std::int32_t below = -1;  // in returns_; -1: the root rule
  };
  /// A state of the program, which has bytes to read, and the returns below it.
  struct Configuration {
    std::int32_t state = 0;
    std::int32_t below = -1;
    friend auto operator<=>(const Configuration&, const Configuration&) = default;
  };
  struct Set {
    std::vector<Configuration> configurations;  // sorted
    bool may_end = false;
  };

  static std::size_t index(std::int32_t number) { return static_cast<std::size_t>(number); }
  void make_classes();
  std::int32_t return_to(std::int32_t state, std::int32_t below);
  /// Follows `open_` without reading, and gives the set of what can be read then.
  State closed();
  void expand(const Configuration& one, Set& set);
  State numbered(Set set);

  Program program_;
  std::array<std::uint8_t, 256> classes_ = {};
  std::vector<std::uint8_t> sample_;  // by class: one of its bytes
  std::vector<Return> returns_;
  std::unordered_map<std::uint64_t, std::int32_t> return_numbers_;
  std::vector<Set> sets_;                                  // by State
  std::vector<std::int32_t> next_;                         // [state, class]; kUnknown
  std::unordered_multimap<std::uint64_t, State> numbers_;  // by hash of the set
  std::vector<Configuration> open_;                        // of closed()
  std::unordered_map<std::uint64_t, bool> seen_;           // of closed()
  State start_ = kUnknown;
  std::size_t memory_bytes_ = 0;
  bool too_ambiguous_ = false;

  static constexpr State kUnknown = -2;
};

}  // namespace sluice::grammar
