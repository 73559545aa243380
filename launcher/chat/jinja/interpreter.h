// Walks a template's tree and writes its text.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/chat/jinja/run.h"
#include "launcher/chat/jinja/syntax_tree.h"

namespace sluice::launcher::jinja {

/// Names and their values. Looking up goes outwards; setting stays inside.
struct Scope {
  explicit Scope(Scope* around) : parent(around) {}
  const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value);

  Scope* parent;
  std::vector<std::pair<std::string, Value>> names;
  bool kept = false;  // a macro may still look into it
};

/// One rendering. The tree must outlive it.
class Interpreter {
 public:
  /// `now`: what strftime_now() tells.
  Interpreter(Run& run, std::chrono::system_clock::time_point now) : run_(run), now_(now) {}

  /// Throws TemplateError.
  std::string render(const Body& body, std::vector<std::pair<std::string, Value>> variables);

 private:
  /// Whether the rest of a body is left out, and until where.
  enum class Flow : unsigned char { on, next_round, out_of_loop };
  class Frame;
  class Buffer;

  Flow execute(const Body& body, Scope& scope, Buffer& out);
  Flow execute(const Statement& statement, Scope& scope, Buffer& out);
  Flow execute_if(const Statement& statement, Scope& scope, Buffer& out);
  Flow execute_loop(const Statement& statement, Scope& scope, Buffer& out);
  Flow execute_scope(const Statement& statement, Scope& scope, Buffer& out);
  Flow execute_block(const Statement& statement, Scope& scope, Buffer& out);
  void execute_call(const Statement& statement, Scope& scope, Buffer& out);
  Values loop_items(const Statement& statement, Scope& scope);
  void assign(const Target& target, const Value& value, Scope& scope);
  Value function_of(const Statement& statement, Scope& scope);
  Value invoke(const Statement& function, Scope& closure, Arguments arguments);
  void bind(const Statement& function, Scope& scope, Arguments arguments);

  Value evaluate(const Expression& node, Scope& scope);
  Value evaluate_part(const Expression& node, std::size_t part, Scope& scope);
  Value evaluate_name(const Expression& node, Scope& scope);
  Value evaluate_items(const Expression& node, Scope& scope);
  Value evaluate_access(const Expression& node, Scope& scope);
  Value evaluate_condition(const Expression& node, Scope& scope);
  Value evaluate_logic(const Expression& node, Scope& scope);
  Value evaluate_concat(const Expression& node, Scope& scope);
  Value evaluate_compute(const Expression& node, Scope& scope);
  Value evaluate_compare(const Expression& node, Scope& scope);
  Value evaluate_filter(const Expression& node, const Value* block, Scope& scope);
  Value evaluate_test(const Expression& node, Scope& scope);
  Value evaluate_call(const Expression& node, const Value* caller, Scope& scope);
  Arguments evaluate_arguments(const Expression& node, Scope& scope);

  Run& run_;
  std::chrono::system_clock::time_point now_;
  std::size_t open_bytes_ = 0;  // of all buffers
  std::vector<std::unique_ptr<Scope>> kept_;
};

}  // namespace sluice::launcher::jinja
