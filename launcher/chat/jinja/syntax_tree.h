// A template as a tree: what the parser makes and the interpreter walks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "launcher/chat/jinja/filters.h"
#include "launcher/chat/jinja/operators.h"
#include "launcher/chat/jinja/value.h"

namespace sluice::launcher::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  constant,   // value
  name,       // text
  list,       // parts
  tuple,      // parts
  mapping,    // parts: key, value, key, value ...
  attribute,  // parts[0] . text
  item,       // parts[0] [ parts[1] ]
  slice,      // parts[0] [ parts[1] : parts[2] : parts[3] ]; null parts are left out
  call,       // parts[0] ( the other parts, named )
  filter,     // parts[0] | text ( the other parts, named ); parts[0] null: the text of a block
  test,       // parts[0] is text ( the other parts, named )
  condition,  // parts[1] if parts[0] else parts[2], which may be null
  either,     // parts[0] or parts[1]
  both,       // parts[0] and parts[1]
  negation,   // not parts[0]
  minus,      // - parts[0]
  plus,       // + parts[0]
  concat,     // parts joined by ~
  compute,    // parts[0] operators[0] parts[1]
  compare,    // parts[0] operators[0] parts[1] operators[1] parts[2] ...
};

struct Expression {
  ExpressionKind kind = ExpressionKind::constant;
  int line = 1;
  int depth = 1;  // of the tree below
  std::string text;
  Value value;
  std::vector<ExpressionPtr> parts;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<Operator> operators;
  // Null: there is none of that name. It is an error only where it is used: templates ask whether
  // there is a filter before they use it.
  Filter filter = nullptr;
  Test test = nullptr;
};

/// What a loop or `set` gives values to: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name;
  std::string attribute;  // not empty: of the namespace `name`
  std::vector<Target> parts;
  bool is_tuple = false;
};

struct Statement;
using Body = std::vector<Statement>;

/// Of a macro, or of a call block.
struct Signature {
  std::vector<std::string> names;
  std::vector<ExpressionPtr> defaults;  // of the last of `names`
  // Names that the body uses, and so the call may give.
  bool takes_caller = false;
  bool takes_varargs = false;
  bool takes_kwargs = false;
};

enum class StatementKind : std::uint8_t {
  data,       // text
  output,     // expressions
  condition,  // branches: expressions[i] null: else
  loop,       // for target in expressions[0] if expressions[1]: bodies[0], else bodies[1]
  set,        // target = expressions[0]
  set_block,  // target = bodies[0], through the filter expressions[0] where there is one
  macro,      // text, signature, bodies[0]
  call,       // expressions[0] is a call; signature, bodies[0]: what its caller() gives
  filter,     // bodies[0] through the filter expressions[0]
  scope,      // with: targets = expressions, bodies[0]; generation: bodies[0]
  break_loop,
  continue_loop,
};

struct Statement {
  StatementKind kind = StatementKind::data;
  int line = 1;
  std::string text;
  std::vector<ExpressionPtr> expressions;
  std::vector<Body> bodies;
  std::vector<Target> targets;
  std::shared_ptr<const Signature> signature;
};

}  // namespace sluice::launcher::jinja
