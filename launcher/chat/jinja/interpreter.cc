#include "launcher/chat/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/chat/jinja/access.h"
#include "launcher/chat/jinja/frame.h"
#include "launcher/chat/jinja/operators.h"

namespace sluice::launcher::jinja {

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
    for (const auto& [known, value] : scope->names) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  const auto known = std::ranges::find(names, name, &std::pair<std::string, Value>::first);
  if (known != names.end()) {
    known->second = std::move(value);
  } else {
    names.emplace_back(name, std::move(value));
  }
}

std::string Interpreter::render(const Body& body,
                                std::vector<std::pair<std::string, Value>> variables) {
  Scope outermost(nullptr);
  outermost.names = std::move(variables);
  Frame frame(*this, outermost);
  Buffer out(*this);
  execute(body, frame.scope(), out);
  return out.take();
}

Interpreter::Flow Interpreter::execute(const Body& body, Scope& scope, Buffer& out) {
  for (const Statement& statement : body) {
    const Flow flow = execute(statement, scope, out);
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, Scope& scope, Buffer& out) {
  const Run::Level deeper(run_);
  run_.step();
  run_.set_line(statement.line);
  switch (statement.kind) {
    case StatementKind::data:
      out.add(statement.text);
      return Flow::on;
    case StatementKind::output:
      for (const ExpressionPtr& node : statement.expressions) out.add(evaluate(*node, scope));
      return Flow::on;
    case StatementKind::condition:
      return execute_if(statement, scope, out);
    case StatementKind::loop:
      return execute_loop(statement, scope, out);
    case StatementKind::set:
      assign(statement.targets[0], evaluate(*statement.expressions[0], scope), scope);
      return Flow::on;
    case StatementKind::macro:
      scope.set(statement.text, function_of(statement, scope));
      return Flow::on;
    case StatementKind::call:
      execute_call(statement, scope, out);
      return Flow::on;
    case StatementKind::set_block:
    case StatementKind::filter:
      return execute_block(statement, scope, out);
    case StatementKind::scope:
      return execute_scope(statement, scope, out);
    case StatementKind::break_loop:
      return Flow::out_of_loop;
    case StatementKind::continue_loop:
      return Flow::next_round;
  }
  return Flow::on;
}

Interpreter::Flow Interpreter::execute_if(const Statement& statement, Scope& scope, Buffer& out) {
  for (std::size_t i = 0; i < statement.expressions.size(); ++i) {
    const ExpressionPtr& condition = statement.expressions[i];
    if (condition != nullptr && !truth(evaluate(*condition, scope))) continue;
    return execute(statement.bodies[i], scope, out);
  }
  return Flow::on;
}

Values Interpreter::loop_items(const Statement& statement, Scope& scope) {
  Values items = items_of(run_, evaluate(*statement.expressions[0], scope));
  const ExpressionPtr& condition = statement.expressions[1];
  if (condition == nullptr) return items;
  Values kept;
  for (Value& item : items) {
    Frame inner(*this, scope);
    assign(statement.targets[0], item, inner.scope());
    if (truth(evaluate(*condition, inner.scope()))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_loop(const Statement& statement, Scope& scope, Buffer& out) {
  const Value loop = run_.loop(loop_items(statement, scope));
  Loop& state = loop.loop();
  if (state.items.empty()) {
    Frame inner(*this, scope);
    return execute(statement.bodies[1], inner.scope(), out);  // a `break` is of a loop around it
  }
  for (; state.index < state.items.size(); ++state.index) {
    run_.step();
    Frame inner(*this, scope);
    assign(statement.targets[0], state.items[state.index], inner.scope());
    inner.scope().set("loop", loop);
    if (execute(statement.bodies[0], inner.scope(), out) == Flow::out_of_loop) break;
  }
  return Flow::on;
}

/// `with`, `generation`.
Interpreter::Flow Interpreter::execute_scope(const Statement& statement, Scope& scope,
                                             Buffer& out) {
  Frame inner(*this, scope);
  for (std::size_t i = 0; i < statement.targets.size(); ++i) {
    assign(statement.targets[i], evaluate(*statement.expressions[i], scope), inner.scope());
  }
  return execute(statement.bodies[0], inner.scope(), out);
}

/// A body as a text: for `set`, or through a filter.
Interpreter::Flow Interpreter::execute_block(const Statement& statement, Scope& scope,
                                             Buffer& out) {
  Buffer inside(*this);
  {
    Frame inner(*this, scope);
    const Flow flow = execute(statement.bodies[0], inner.scope(), inside);
    if (flow != Flow::on) return flow;
  }
  Value text = run_.text(inside.take());
  const ExpressionPtr& filter = statement.expressions[0];
  if (filter != nullptr) text = evaluate_filter(*filter, &text, scope);
  if (statement.kind == StatementKind::filter) {
    out.add(text);
  } else {
    assign(statement.targets[0], text, scope);
  }
  return Flow::on;
}

void Interpreter::execute_call(const Statement& statement, Scope& scope, Buffer& out) {
  const Value caller = function_of(statement, scope);
  out.add(evaluate_call(*statement.expressions[0], &caller, scope));
}

void Interpreter::assign(const Target& target, const Value& value, Scope& scope) {
  if (target.is_tuple) {
    const Values parts = items_of(run_, value);
    if (parts.size() != target.parts.size()) {
      run_.fail(parts.size() > target.parts.size()
                    ? fmt::format("too many values to unpack (expected {})", target.parts.size())
                    : fmt::format("not enough values to unpack (expected {}, got {})",
                                  target.parts.size(), parts.size()));
    }
    for (std::size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], parts[i], scope);
    return;
  }
  if (target.attribute.empty()) return scope.set(target.name, value);
  const Value* names = scope.find(target.name);
  if (names == nullptr || !names->is(Kind::names)) {
    run_.fail("cannot assign attribute on non-namespace object");
  }
  auto& members = names->names().members;
  const auto known =
      std::ranges::find(members, target.attribute, &std::pair<std::string, Value>::first);
  if (known != members.end()) {
    known->second = value;
  } else {
    members.emplace_back(target.attribute, value);
  }
}

/// A macro, or what a call block gives as caller(). It looks into the scopes around it for as long
/// as the rendering goes on.
Value Interpreter::function_of(const Statement& statement, Scope& scope) {
  for (Scope* around = &scope; around != nullptr && !around->kept; around = around->parent) {
    around->kept = true;
  }
  return run_.function(statement.text, [this, &statement, &scope](Run&, Arguments arguments) {
    return invoke(statement, scope, std::move(arguments));
  });
}

Value Interpreter::invoke(const Statement& function, Scope& closure, Arguments arguments) {
  const Run::Level deeper(run_);
  run_.step();
  Frame inner(*this, closure);
  bind(function, inner.scope(), std::move(arguments));
  Buffer out(*this);
  execute(function.bodies[0], inner.scope(), out);
  return run_.text(out.take());
}

/// Gives the parameters their values. Source: Jinja's runtime.py, Macro.__call__.
void Interpreter::bind(const Statement& function, Scope& scope, Arguments arguments) {
  const Signature& signature = *function.signature;
  auto& named = arguments.named;
  const auto take = [&](std::string_view name, Value& value) {
    const auto found = std::ranges::find(named, name, &std::pair<std::string, Value>::first);
    if (found == named.end()) return false;
    value = std::move(found->second);
    named.erase(found);
    return true;
  };
  const std::size_t count = signature.names.size();
  const std::size_t first_default = count - signature.defaults.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& name = signature.names[i];
    Value value;
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (!take(name, value)) {
      value = i >= first_default
                  ? evaluate(*signature.defaults[i - first_default], scope)
                  : run_.undefined(fmt::format("parameter '{}' was not provided", name));
    }
    scope.set(name, std::move(value));
  }
  const std::string called =
      function.text.empty() ? std::string("the caller") : fmt::format("macro '{}'", function.text);
  if (signature.takes_caller && std::ranges::count(signature.names, "caller") == 0) {
    Value caller;
    if (!take("caller", caller)) caller = run_.undefined("No caller defined");
    scope.set("caller", std::move(caller));
  }
  if (signature.takes_kwargs) {
    std::vector<Mapping::Member> members;
    for (auto& [name, value] : named) members.emplace_back(run_.text(name), std::move(value));
    scope.set("kwargs", run_.mapping(std::move(members)));
  } else if (!named.empty()) {
    run_.fail(fmt::format("{} takes no keyword argument '{}'", called, named.front().first));
  }
  Values more;
  for (std::size_t i = count; i < arguments.positional.size(); ++i) {
    more.push_back(std::move(arguments.positional[i]));
  }
  if (signature.takes_varargs) {
    scope.set("varargs", run_.tuple(std::move(more)));
  } else if (!more.empty()) {
    run_.fail(fmt::format("{} takes not more than {} argument(s)", called, count));
  }
}

}  // namespace sluice::launcher::jinja
