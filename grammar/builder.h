// Grammars are written with a builder: texts, choices, repeats and rules over bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/characters.h"
#include "grammar/program.h"

namespace sluice::grammar {

/// An expression of one builder.
using Node = std::int32_t;
/// A rule of one builder.
using Rule = std::int32_t;

class Builder {
 public:
  static constexpr std::int64_t kUnbounded = -1;

  /// The empty text.
  Node nothing();
  /// No text at all: what needs it cannot be written.
  Node never();
  Node bytes(std::uint8_t low, std::uint8_t high);
  Node text(std::string_view bytes);
  /// One character of the set, in UTF-8.
  Node character(const CharacterSet& set);
  Node sequence(std::vector<Node> parts);
  Node choice(std::vector<Node> alternatives);
  Node optional(Node part) { return repeat(part, 0, 1); }
  /// Pre: 0 <= least; most is kUnbounded or at least `least`.
  Node repeat(Node part, std::int64_t least, std::int64_t most);

  /// A rule to be defined later, so that it may call itself. `name` is for messages.
  Rule declare(std::string name);
  void define(Rule rule, Node body);
  /// A text of the rule. A rule's body is in the program once, however often it is called.
  Node call(Rule rule);

  /// The program of `root` and all that it calls. Throws InputError, naming rules, for one that is
  /// called and not defined, for one that calls itself before it reads anything, where nothing can
  /// be written at all, and for more states or edges than a program may have.
  Program compile(Rule root) const;

 private:
  friend class Compiler;

  struct Expression {
    enum class Kind : std::uint8_t { bytes, text, sequence, choice, repeat, call };
    Kind kind = Kind::sequence;
    std::uint8_t low = 0;
    std::uint8_t high = 0;
    std::string text = {};
    std::vector<Node> parts = {};
    std::int64_t least = 0;
    std::int64_t most = 0;
    Rule rule = -1;
  };
  struct Named {
    std::string name;
    Node body = -1;
  };

  Node add(Expression expression);

  std::vector<Expression> expressions_;
  std::vector<Named> rules_;
  std::map<CharacterSet, Node> characters_;
};

}  // namespace sluice::grammar
