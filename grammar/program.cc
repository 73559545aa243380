#include "grammar/program.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/device/error.h"

namespace sluice::grammar {
namespace {

static_assert(std::is_trivially_copyable_v<Edge> && sizeof(Edge) == 12);

template <typename T>
void put(const std::vector<T>& values, std::vector<std::byte>& bytes) {
  const auto count = static_cast<std::uint32_t>(values.size());
  const std::size_t begin = bytes.size();
  bytes.resize(begin + sizeof count + values.size() * sizeof(T));
  std::memcpy(bytes.data() + begin, &count, sizeof count);
  if (values.empty()) return;
  std::memcpy(bytes.data() + begin + sizeof count, values.data(), values.size() * sizeof(T));
}

[[noreturn]] void refuse() {
  throw CommError(
      "the grammar of a row is damaged; start the same version of sluice on every rank");
}

template <typename T>
void get(std::span<const std::byte>& bytes, std::size_t most, std::vector<T>& values) {
  std::uint32_t count = 0;
  if (bytes.size() < sizeof count) refuse();
  std::memcpy(&count, bytes.data(), sizeof count);
  bytes = bytes.subspan(sizeof count);
  if (count > most || bytes.size() / sizeof(T) < count) refuse();
  values.resize(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  bytes = bytes.subspan(count * sizeof(T));
}

void check(const Program& program) {
  const auto edges = static_cast<std::int32_t>(program.edges.size());
  const auto rules = static_cast<std::int32_t>(program.rule_starts.size());
  const bool whole = program.first_edge.size() >= 2 && rules > 0 &&
                     program.first_edge.front() == 0 && program.first_edge.back() == edges &&
                     std::ranges::is_sorted(program.first_edge);
  if (!whole) refuse();
  const std::int32_t states = program.states();
  const auto is_state = [&](std::int32_t state) { return state >= 0 && state < states; };
  if (!std::ranges::all_of(program.rule_starts, is_state)) refuse();
  for (const Edge& edge : program.edges) {
    const bool call = edge.kind == Edge::Kind::call;
    if (edge.kind > Edge::Kind::call || !is_state(edge.target)) refuse();
    if (call && (edge.rule < 0 || edge.rule >= rules)) refuse();
  }
}

}  // namespace

std::span<const Edge> Program::edges_of(std::int32_t state) const {
  const auto begin = static_cast<std::size_t>(first_edge[static_cast<std::size_t>(state)]);
  const auto end = static_cast<std::size_t>(first_edge[static_cast<std::size_t>(state) + 1]);
  return std::span(edges).subspan(begin, end - begin);
}

std::vector<std::byte> encode(const Program& program) {
  std::vector<std::byte> bytes;
  put(program.first_edge, bytes);
  put(program.edges, bytes);
  put(program.rule_starts, bytes);
  put(program.end_tokens, bytes);
  return bytes;
}

Program decode(std::span<const std::byte> bytes) {
  Program program;
  get(bytes, kMostStates + 1, program.first_edge);
  get(bytes, kMostEdges, program.edges);
  get(bytes, kMostRules, program.rule_starts);
  get(bytes, kMostEndTokens, program.end_tokens);
  if (!bytes.empty()) refuse();
  check(program);
  return program;
}

}  // namespace sluice::grammar
