#include "grammar/compiler.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/device/error.h"

namespace sluice::grammar {
namespace {

using Kind = Edge::Kind;

std::size_t at(std::int32_t index) { return static_cast<std::size_t>(index); }

[[noreturn]] void refuse_size(const char* what, std::size_t most) {
  throw InputError(
      fmt::format("the grammar has more than {} {}; make its bounds (such as maxLength) smaller, "
                  "or leave them out",
                  most, what));
}

}  // namespace

std::int32_t Compiler::new_state() {
  if (at(states_) >= kMostStates) refuse_size("states", kMostStates);
  return states_++;
}

void Compiler::add_edge(std::int32_t from, const Edge& edge) {
  if (edges_.size() >= kMostEdges) refuse_size("edges", kMostEdges);
  edges_.push_back({from, edge});
}

std::int32_t Compiler::number_of_rule(Rule rule) {
  std::int32_t& number = of_rule_[at(rule)];
  if (number >= 0) return number;
  if (builder_.rules_[at(rule)].body < 0) {
    throw InputError(fmt::format("the rule '{}' is used and not defined; define it",
                                 builder_.rules_[at(rule)].name));
  }
  if (bodies_.size() >= kMostRules) refuse_size("rules", kMostRules);
  number = static_cast<std::int32_t>(bodies_.size());
  bodies_.push_back({builder_.rules_[at(rule)].body, rule});
  return number;
}

std::int32_t Compiler::number_of_repeated(Node node) {
  std::int32_t& number = of_repeated_[at(node)];
  if (number >= 0) return number;
  if (bodies_.size() >= kMostRules) refuse_size("rules", kMostRules);
  number = static_cast<std::int32_t>(bodies_.size());
  bodies_.push_back({node, -1});
  return number;
}

Program Compiler::compile(Rule root) {
  of_rule_.assign(builder_.rules_.size(), -1);
  of_repeated_.assign(builder_.expressions_.size(), -1);
  number_of_rule(root);
  for (std::size_t i = 0; i < bodies_.size(); ++i) {  // grows while it is written
    const std::int32_t start = new_state();
    const std::int32_t end = new_state();
    bodies_[i].start = start;
    bodies_[i].end = end;
    write(bodies_[i].node, start, end);
  }
  find_productive();
  if (!productive_[at(bodies_.front().start)]) {
    throw InputError(
        "no text fits the grammar: each of its alternatives needs something that "
        "cannot be written");
  }
  find_empty();
  refuse_left_recursion();
  return packed();
}

/// All texts of `node` lead from `from` to `to`. Nothing but this adds edges between the two, so
/// alternatives may share both ends.
void Compiler::write(Node node, std::int32_t from, std::int32_t to) {
  const Expression& one = expression(node);
  switch (one.kind) {
    case Expression::Kind::bytes:
      return add_edge(from, {Kind::bytes, one.low, one.high, 0, to, -1});
    case Expression::Kind::text:
      return write_text(one.text, from, to);
    case Expression::Kind::sequence:
      return write_sequence(one.parts, from, to);
    case Expression::Kind::choice:
      for (const Node part : one.parts) write(part, from, to);
      return;
    case Expression::Kind::repeat:
      return write_repeat(node, from, to);
    case Expression::Kind::call:
      return add_edge(from, {Kind::call, 0, 0, 0, to, number_of_rule(one.rule)});
  }
}

void Compiler::write_text(const std::string& text, std::int32_t from, std::int32_t to) {
  if (text.empty()) return add_edge(from, {Kind::nothing, 0, 0, 0, to, -1});
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::int32_t next = i + 1 == text.size() ? to : new_state();
    const auto byte = static_cast<std::uint8_t>(text[i]);
    add_edge(from, {Kind::bytes, byte, byte, 0, next, -1});
    from = next;
  }
}

void Compiler::write_sequence(const std::vector<Node>& parts, std::int32_t from, std::int32_t to) {
  if (parts.empty()) return add_edge(from, {Kind::nothing, 0, 0, 0, to, -1});
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::int32_t next = i + 1 == parts.size() ? to : new_state();
    write(parts[i], from, next);
    from = next;
  }
}

void Compiler::write_repeat(Node node, std::int32_t from, std::int32_t to) {
  const Expression& one = expression(node);
  write_copies(one.parts.front(), one, from, to);
}

/// Of many copies each is a call of one rule.
void Compiler::write_copies(Node part, const Expression& repeat, std::int32_t from,
                            std::int32_t to) {
  const std::int64_t copies = std::max(repeat.least, repeat.most);
  const Expression::Kind kind = expression(part).kind;
  const bool small = kind == Expression::Kind::bytes || kind == Expression::Kind::call;
  const auto write_one = [&](std::int32_t begin, std::int32_t end) {
    if (small || copies <= 1) return write(part, begin, end);
    add_edge(begin, {Kind::call, 0, 0, 0, end, number_of_repeated(part)});
  };
  for (std::int64_t i = 0; i < repeat.least; ++i) {
    const std::int32_t next = new_state();
    write_one(from, next);
    from = next;
  }
  if (repeat.most == Builder::kUnbounded) {
    const std::int32_t loop = new_state();
    add_edge(from, {Kind::nothing, 0, 0, 0, loop, -1});
    write_one(loop, loop);
    return add_edge(loop, {Kind::nothing, 0, 0, 0, to, -1});
  }
  for (std::int64_t i = repeat.least; i < repeat.most; ++i) {
    add_edge(from, {Kind::nothing, 0, 0, 0, to, -1});
    const std::int32_t next = new_state();
    write_one(from, next);
    from = next;
  }
  add_edge(from, {Kind::nothing, 0, 0, 0, to, -1});
}

/// Backwards from the ends of rules: a call is a way once its rule has an end.
void Compiler::find_productive() {
  productive_.assign(at(states_), false);
  for (const Body& body : bodies_) productive_[at(body.end)] = true;
  for (bool changed = true; changed;) {
    changed = false;
    for (auto one = edges_.rbegin(); one != edges_.rend(); ++one) {
      if (productive_[at(one->state)] || !productive_[at(one->edge.target)]) continue;
      if (one->edge.kind == Kind::call && !productive_[at(bodies_[at(one->edge.rule)].start)]) {
        continue;
      }
      productive_[at(one->state)] = changed = true;
    }
  }
  std::erase_if(edges_, [&](const From& one) {
    return !productive_[at(one.state)] || !productive_[at(one.edge.target)] ||
           (one.edge.kind == Kind::call && !productive_[at(bodies_[at(one.edge.rule)].start)]);
  });
}

void Compiler::find_empty() {
  empty_.assign(at(states_), false);
  for (const Body& body : bodies_) empty_[at(body.end)] = true;
  for (bool changed = true; changed;) {
    changed = false;
    for (auto one = edges_.rbegin(); one != edges_.rend(); ++one) {
      if (empty_[at(one->state)] || !empty_[at(one->edge.target)]) continue;
      if (one->edge.kind == Kind::bytes) continue;
      if (one->edge.kind == Kind::call && !empty_[at(bodies_[at(one->edge.rule)].start)]) continue;
      empty_[at(one->state)] = changed = true;
    }
  }
  edges_from_.assign(at(states_), {});
  for (std::size_t i = 0; i < edges_.size(); ++i) edges_from_[at(edges_[i].state)].push_back(i);
}

std::vector<std::int32_t> Compiler::first_calls(std::size_t body) const {
  std::vector<std::int32_t> calls;
  std::vector<std::int32_t> open = {bodies_[body].start};
  std::vector<bool> seen(at(states_), false);
  while (!open.empty()) {
    const std::int32_t state = open.back();
    open.pop_back();
    if (seen[at(state)]) continue;
    seen[at(state)] = true;
    for (const std::size_t index : edges_from_[at(state)]) {
      const Edge& edge = edges_[index].edge;
      if (edge.kind == Kind::bytes) continue;
      if (edge.kind == Kind::call) calls.push_back(edge.rule);
      if (edge.kind == Kind::nothing || empty_[at(bodies_[at(edge.rule)].start)]) {
        open.push_back(edge.target);
      }
    }
  }
  return calls;
}

void Compiler::refuse_left_recursion() const {
  // Rules that begin with no rule are taken away; what is left in the end is in a circle, or leads
  // to one.
  std::vector<std::vector<std::int32_t>> calls;
  for (std::size_t i = 0; i < bodies_.size(); ++i) calls.push_back(first_calls(i));
  std::vector<bool> done(bodies_.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = bodies_.size(); i-- > 0;) {
      const auto is_done = [&](std::int32_t rule) { return bool{done[at(rule)]}; };
      if (done[i] || !std::ranges::all_of(calls[i], is_done)) continue;
      done[i] = changed = true;
    }
  }
  for (std::size_t i = 0; i < bodies_.size(); ++i) {
    if (done[i] || bodies_[i].rule < 0) continue;
    throw InputError(
        fmt::format("the rule '{}' calls itself, or one that does, before it reads anything; put "
                    "what it reads in front of the call",
                    builder_.rules_[at(bodies_[i].rule)].name));
  }
}

Program Compiler::packed() const {
  Program program;
  for (std::int32_t state = 0; state < states_; ++state) {
    program.first_edge.push_back(static_cast<std::int32_t>(program.edges.size()));
    for (const std::size_t index : edges_from_[at(state)]) {
      program.edges.push_back(edges_[index].edge);
    }
  }
  program.first_edge.push_back(static_cast<std::int32_t>(program.edges.size()));
  for (const Body& body : bodies_) program.rule_starts.push_back(body.start);
  return program;
}

}  // namespace sluice::grammar
