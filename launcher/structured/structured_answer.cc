#include "launcher/structured/structured_answer.h"

#include <utility>

#include "grammar/builder.h"
#include "kernels/device/error.h"
#include "launcher/structured/gbnf.h"
#include "launcher/structured/grammar_problem.h"
#include "launcher/structured/json_schema.h"
#include "launcher/structured/json_text.h"
#include "launcher/structured/pattern.h"

namespace sluice::launcher {
namespace {

using grammar::Builder;

grammar::Program compiled(const Builder& builder, grammar::Rule root) {
  try {
    return builder.compile(root);
  } catch (const InputError& problem) {
    throw GrammarProblem(problem.what());
  }
}

grammar::Program compiled_node(Builder& builder, grammar::Node node) {
  const grammar::Rule root = builder.declare("root");
  builder.define(root, node);
  return compiled(builder, root);
}

}  // namespace

grammar::Program schema_program(const Json& schema) {
  Builder builder;
  return compiled(builder, json_schema_rule(schema, builder));
}

grammar::Program json_object_program() {
  Builder builder;
  JsonText text(builder);
  return compiled_node(builder, text.any_object());
}

grammar::Program pattern_program(std::string_view pattern) {
  Builder builder;
  return compiled_node(builder, pattern_node(pattern, builder));
}

grammar::Program choice_program(const std::vector<std::string>& choices) {
  Builder builder;
  std::vector<grammar::Node> texts;
  for (const std::string& choice : choices) texts.push_back(builder.text(choice));
  return compiled_node(builder, builder.choice(std::move(texts)));
}

grammar::Program gbnf_program(std::string_view text) {
  Builder builder;
  return compiled(builder, gbnf_rule(text, builder));
}

}  // namespace sluice::launcher
