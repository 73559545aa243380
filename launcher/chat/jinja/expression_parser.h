// Expressions of a template, by Jinja's own grammar.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/syntax_tree.h"
#include "launcher/chat/jinja/token_stream.h"

namespace sluice::launcher::jinja {

/// Each function of Jinja's parser.py has one here. Throws TemplateError.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& stream) : stream_(stream) {}

  /// `with_condition`: "a if b else c" may be the whole expression.
  ExpressionPtr expression(bool with_condition = true);
  /// One expression, or several with commas between them, which are a tuple. It ends before a name
  /// of `end_names`.
  ExpressionPtr tuple(bool with_condition = true, std::string_view end_name = {},
                      bool in_brackets = false);
  /// "| a | b(c)" over `input`; null: over the text of a block. `inline_start`: the first name has
  /// no bar in front.
  ExpressionPtr filters(ExpressionPtr input, bool inline_start);
  /// Names that the expressions so far have used: macros look whether `caller` is among them.
  std::vector<std::string>& used_names() { return used_names_; }

 private:
  ExpressionPtr condition();
  ExpressionPtr either();
  ExpressionPtr both();
  ExpressionPtr negation();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concat();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters = true);
  ExpressionPtr primary();
  ExpressionPtr list();
  ExpressionPtr mapping();
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr filters_and_tests(ExpressionPtr node);
  ExpressionPtr subscript(ExpressionPtr node);
  ExpressionPtr call(ExpressionPtr node);
  ExpressionPtr test(ExpressionPtr node);
  void arguments(Expression& node);

  ExpressionPtr make(ExpressionKind kind, int line) const;
  ExpressionPtr make(ExpressionKind kind, int line, ExpressionPtr first) const;
  ExpressionPtr constant(int line, Value value) const;
  ExpressionPtr text_constant();
  ExpressionPtr number();

  TokenStream& stream_;
  std::vector<std::string> used_names_;
};

}  // namespace sluice::launcher::jinja
