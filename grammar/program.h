// A grammar over bytes, ready to run: plain data that travels from the launcher, which makes it, to
// the last stage, which obeys it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sluice::grammar {

/// A way from one state to another: by a byte of [low, high], by nothing, or by a text of `rule`.
struct Edge {
  enum class Kind : std::uint8_t { bytes, nothing, call };
  Kind kind = Kind::nothing;
  std::uint8_t low = 0;
  std::uint8_t high = 0;
  std::uint8_t unused = 0;
  std::int32_t target = 0;
  std::int32_t rule = -1;

  friend bool operator==(const Edge&, const Edge&) = default;
};

/// Rule 0 is the whole text. A state without edges is the end of its rule. No rule can call itself
/// before it has read a byte, and from every state the end can be reached.
struct Program {
  std::vector<std::int32_t> first_edge;   // by state; one more than there are states
  std::vector<Edge> edges;                // by state
  std::vector<std::int32_t> rule_starts;  // by rule: a state
  /// Token ids that end an answer: allowed where the text may end, and nowhere else.
  std::vector<std::int32_t> end_tokens;

  std::int32_t states() const { return static_cast<std::int32_t>(first_edge.size()) - 1; }
  std::span<const Edge> edges_of(std::int32_t state) const;

  friend bool operator==(const Program&, const Program&) = default;
};

constexpr std::size_t kMostEdges = 20'000;
constexpr std::size_t kMostStates = 20'000;
constexpr std::size_t kMostRules = 10'000;
constexpr std::size_t kMostEndTokens = 300;
/// No encoded program is longer.
constexpr std::size_t kMostProgramBytes =
    4 * sizeof(std::int32_t) + kMostEdges * sizeof(Edge) +
    (kMostStates + 1 + kMostRules + kMostEndTokens) * sizeof(std::int32_t);

/// For ranks of the same build. Decoding gives an equal program.
std::vector<std::byte> encode(const Program& program);
/// Throws CommError for bytes that are no program, or name states and rules that are not there.
Program decode(std::span<const std::byte> bytes);

}  // namespace sluice::grammar
