// Expressions. Source of their meaning: Jinja's compiler.py, which makes Python of them.
#include <fmt/format.h>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/filters.h"
#include "launcher/chat/jinja/format_text.h"
#include "launcher/chat/jinja/frame.h"
#include "launcher/chat/jinja/interpreter.h"
#include "launcher/chat/jinja/methods.h"
#include "launcher/chat/jinja/operators.h"

namespace sluice::launcher::jinja {

void Interpreter::Buffer::add(std::string_view piece) {
  Run& run = owner_.run_;
  run.scan(piece.size());
  if (piece.size() > run.limits().output_bytes - owner_.open_bytes_) {
    run.exceed(fmt::format("its text has more than {} bytes", run.limits().output_bytes));
  }
  owner_.open_bytes_ += piece.size();
  bytes_.append(piece);
}

void Interpreter::Buffer::add(const Value& value) {
  if (value.is_text()) return add(value.bytes());
  add(str(owner_.run_, value));
}

Value Interpreter::evaluate(const Expression& node, Scope& scope) {
  const Run::Level deeper(run_);
  run_.step();
  switch (node.kind) {
    case ExpressionKind::constant:
      return node.value;
    case ExpressionKind::name:
      return evaluate_name(node, scope);
    case ExpressionKind::list:
    case ExpressionKind::tuple:
    case ExpressionKind::mapping:
      return evaluate_items(node, scope);
    case ExpressionKind::attribute:
    case ExpressionKind::item:
    case ExpressionKind::slice:
      return evaluate_access(node, scope);
    case ExpressionKind::call:
      return evaluate_call(node, nullptr, scope);
    case ExpressionKind::filter:
      return evaluate_filter(node, nullptr, scope);
    case ExpressionKind::test:
      return evaluate_test(node, scope);
    case ExpressionKind::condition:
      return evaluate_condition(node, scope);
    case ExpressionKind::either:
    case ExpressionKind::both:
      return evaluate_logic(node, scope);
    case ExpressionKind::negation:
      return Value(!truth(evaluate(*node.parts[0], scope)));
    case ExpressionKind::minus:
      return negate(run_, evaluate_part(node, 0, scope));
    case ExpressionKind::plus:
      // +x is x for a number, and an error for anything else, as -x is.
      return negate(run_, negate(run_, evaluate_part(node, 0, scope)));
    case ExpressionKind::concat:
      return evaluate_concat(node, scope);
    case ExpressionKind::compute:
      return evaluate_compute(node, scope);
    case ExpressionKind::compare:
      return evaluate_compare(node, scope);
  }
  return {};
}

/// None for a part that is left out. The line is the node's again.
Value Interpreter::evaluate_part(const Expression& node, std::size_t part, Scope& scope) {
  const ExpressionPtr& child = node.parts[part];
  Value value = child == nullptr ? Value() : evaluate(*child, scope);
  run_.set_line(node.line);
  return value;
}

Value Interpreter::evaluate_name(const Expression& node, Scope& scope) {
  if (const Value* value = scope.find(node.text)) return *value;
  run_.set_line(node.line);
  return global(run_, node.text, now_);
}

Value Interpreter::evaluate_items(const Expression& node, Scope& scope) {
  Values items;
  items.reserve(node.parts.size());
  for (const ExpressionPtr& part : node.parts) items.push_back(evaluate(*part, scope));
  run_.set_line(node.line);
  if (node.kind == ExpressionKind::list) return run_.list(std::move(items));
  if (node.kind == ExpressionKind::tuple) return run_.tuple(std::move(items));
  std::vector<Mapping::Member> members;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    members.emplace_back(std::move(items[i]), std::move(items[i + 1]));
  }
  return run_.mapping_of_pairs(std::move(members));
}

Value Interpreter::evaluate_access(const Expression& node, Scope& scope) {
  const Value base = evaluate_part(node, 0, scope);
  if (node.kind == ExpressionKind::attribute) return attribute(run_, base, node.text);
  const Value first = evaluate_part(node, 1, scope);
  if (node.kind == ExpressionKind::item) return item(run_, base, first);
  const Value stop = evaluate_part(node, 2, scope);
  return slice(run_, base, first, stop, evaluate_part(node, 3, scope));
}

Value Interpreter::evaluate_condition(const Expression& node, Scope& scope) {
  if (truth(evaluate(*node.parts[0], scope))) return evaluate(*node.parts[1], scope);
  if (node.parts[2] != nullptr) return evaluate(*node.parts[2], scope);
  return run_.undefined(fmt::format(
      "the inline if-expression on line {} evaluated to false and no else section was defined.",
      node.line));
}

Value Interpreter::evaluate_logic(const Expression& node, Scope& scope) {
  const bool decides = node.kind == ExpressionKind::either;
  for (std::size_t i = 0;; ++i) {
    Value value = evaluate(*node.parts[i], scope);
    if (i + 1 == node.parts.size() || truth(value) == decides) return value;
  }
}

Value Interpreter::evaluate_concat(const Expression& node, Scope& scope) {
  Builder out(run_);
  for (std::size_t i = 0; i < node.parts.size(); ++i) {
    const Value part = evaluate_part(node, i, scope);
    out.add(part.is_text() ? part.bytes() : str(run_, part));
  }
  return out.take_value();
}

Value Interpreter::evaluate_compute(const Expression& node, Scope& scope) {
  const Value left = evaluate(*node.parts[0], scope);
  const Value right = evaluate_part(node, 1, scope);
  return compute(run_, node.operators[0], left, right);
}

Value Interpreter::evaluate_compare(const Expression& node, Scope& scope) {
  Value left = evaluate(*node.parts[0], scope);
  for (std::size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate_part(node, i + 1, scope);
    if (!compare(run_, node.operators[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

/// `block`: what stands for the innermost input, of a filter over a block.
Value Interpreter::evaluate_filter(const Expression& node, const Value* block, Scope& scope) {
  const Run::Level deeper(run_);
  const ExpressionPtr& inner = node.parts[0];
  Value input;
  if (inner == nullptr) {
    input = *block;
  } else if (block != nullptr && inner->kind == ExpressionKind::filter) {
    input = evaluate_filter(*inner, block, scope);
  } else {
    input = evaluate(*inner, scope);
  }
  const Arguments arguments = evaluate_arguments(node, scope);
  run_.set_line(node.line);
  if (node.filter == nullptr) run_.refuse(fmt::format("the filter '{}'", node.text));
  return node.filter(run_, input, arguments);
}

Value Interpreter::evaluate_test(const Expression& node, Scope& scope) {
  const Value input = evaluate(*node.parts[0], scope);
  const Arguments arguments = evaluate_arguments(node, scope);
  run_.set_line(node.line);
  if (node.test == nullptr) run_.refuse(fmt::format("the test '{}'", node.text));
  return Value(node.test(run_, input, arguments));
}

/// Those behind the first part of `node`.
Arguments Interpreter::evaluate_arguments(const Expression& node, Scope& scope) {
  Arguments arguments;
  for (std::size_t i = 1; i < node.parts.size(); ++i) {
    arguments.positional.push_back(evaluate(*node.parts[i], scope));
  }
  for (const auto& [name, value] : node.named) {
    arguments.named.emplace_back(name, evaluate(*value, scope));
  }
  return arguments;
}

/// `caller`: of a call block.
Value Interpreter::evaluate_call(const Expression& node, const Value* caller, Scope& scope) {
  const Expression& callee = *node.parts[0];
  Value function;
  if (callee.kind == ExpressionKind::attribute) {
    const Value base = evaluate_part(callee, 0, scope);
    check_defined(run_, base);
    if (method_kind(base, callee.text) == MethodKind::known) {
      Arguments arguments = evaluate_arguments(node, scope);
      run_.set_line(node.line);
      return call_method(run_, base, callee.text, std::move(arguments));
    }
    function = attribute(run_, base, callee.text);
  } else {
    function = evaluate(callee, scope);
  }
  Arguments arguments = evaluate_arguments(node, scope);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  run_.set_line(node.line);
  check_defined(run_, function);
  if (!function.is(Kind::function)) {
    run_.fail(fmt::format("'{}' object is not callable", type_name(function)));
  }
  Value result = function.function().call(run_, std::move(arguments));
  run_.set_line(node.line);
  return result;
}

}  // namespace sluice::launcher::jinja
