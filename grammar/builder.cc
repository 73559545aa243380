#include "grammar/builder.h"

#include <fmt/format.h>

#include <utility>

#include "grammar/compiler.h"

namespace sluice::grammar {

Node Builder::add(Expression expression) {
  expressions_.push_back(std::move(expression));
  return static_cast<Node>(expressions_.size()) - 1;
}

Node Builder::nothing() { return add({.kind = Expression::Kind::sequence}); }

Node Builder::never() { return add({.kind = Expression::Kind::choice}); }

Node Builder::bytes(std::uint8_t low, std::uint8_t high) {
  return add({.kind = Expression::Kind::bytes, .low = low, .high = high});
}

Node Builder::text(std::string_view bytes) {
  return add({.kind = Expression::Kind::text, .text = std::string(bytes)});
}

Node Builder::character(const CharacterSet& set) {
  // A set of many ranges is a rule, so that its edges are in the program once.
  constexpr std::size_t kMostInline = 3;
  const auto found = characters_.find(set);
  if (found != characters_.end()) return found->second;
  std::vector<Node> alternatives;
  const std::vector<ByteRanges> utf8 = utf8_of(set);
  for (const ByteRanges& ranges : utf8) {
    std::vector<Node> parts;
    for (const ByteRanges::Range& range : ranges.bytes)
      parts.push_back(bytes(range.low, range.high));
    alternatives.push_back(parts.size() == 1 ? parts.front() : sequence(std::move(parts)));
  }
  Node made = choice(std::move(alternatives));
  if (utf8.size() > kMostInline) {
    const Rule rule = declare("a class of characters");
    define(rule, made);
    made = call(rule);
  }
  characters_.emplace(set, made);
  return made;
}

Node Builder::sequence(std::vector<Node> parts) {
  if (parts.size() == 1) return parts.front();
  return add({.kind = Expression::Kind::sequence, .parts = std::move(parts)});
}

Node Builder::choice(std::vector<Node> alternatives) {
  if (alternatives.size() == 1) return alternatives.front();
  return add({.kind = Expression::Kind::choice, .parts = std::move(alternatives)});
}

Node Builder::repeat(Node part, std::int64_t least, std::int64_t most) {
  if (least == 1 && most == 1) return part;
  return add({.kind = Expression::Kind::repeat, .parts = {part}, .least = least, .most = most});
}

Rule Builder::declare(std::string name) {
  rules_.push_back({std::move(name)});
  return static_cast<Rule>(rules_.size()) - 1;
}

void Builder::define(Rule rule, Node body) { rules_[static_cast<std::size_t>(rule)].body = body; }

Node Builder::call(Rule rule) { return add({.kind = Expression::Kind::call, .rule = rule}); }

Program Builder::compile(Rule root) const { return Compiler(*this).compile(root); }

}  // namespace sluice::grammar
