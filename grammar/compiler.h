// From a builder's expressions to a program: states and edges, without those that lead nowhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "grammar/builder.h"
#include "grammar/program.h"

namespace sluice::grammar {

/// Of one call of Builder::compile(), which says what it throws.
class Compiler {
 public:
  explicit Compiler(const Builder& builder) : builder_(builder) {}

  Program compile(Rule root);

 private:
  using Expression = Builder::Expression;
  struct From {
    std::int32_t state = 0;
    Edge edge;
  };
  /// A rule of the program: one of the builder, or the body of a repeat.
  struct Body {
    Node node = -1;
    Rule rule = -1;  // of the builder; -1: of a repeat
    std::int32_t start = -1;
    std::int32_t end = -1;
  };

  const Expression& expression(Node node) const {
    return builder_.expressions_[static_cast<std::size_t>(node)];
  }
  std::int32_t new_state();
  void add_edge(std::int32_t from, const Edge& edge);
  std::int32_t number_of_rule(Rule rule);
  std::int32_t number_of_repeated(Node node);

  void write(Node node, std::int32_t from, std::int32_t to);
  void write_text(const std::string& text, std::int32_t from, std::int32_t to);
  void write_sequence(const std::vector<Node>& parts, std::int32_t from, std::int32_t to);
  void write_repeat(Node node, std::int32_t from, std::int32_t to);
  void write_copies(Node part, const Expression& repeat, std::int32_t from, std::int32_t to);

  void find_productive();
  void find_empty();
  void refuse_left_recursion() const;
  /// The rules that a text of `body` may begin with, without a byte before them.
  std::vector<std::int32_t> first_calls(std::size_t body) const;
  Program packed() const;

  const Builder& builder_;
  std::vector<Body> bodies_;
  std::vector<std::int32_t> of_rule_;      // by the builder's rule: in bodies_; -1: not yet
  std::vector<std::int32_t> of_repeated_;  // by node
  std::vector<From> edges_;
  std::int32_t states_ = 0;
  std::vector<bool> productive_;  // by state: the end of its rule can be reached
  std::vector<bool> empty_;       // by state: ... without reading anything
  std::vector<std::vector<std::size_t>> edges_from_;  // by state, in edges_
};

}  // namespace sluice::grammar
