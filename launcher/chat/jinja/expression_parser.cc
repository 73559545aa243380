#include "launcher/chat/jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher::jinja {
namespace {

using Level = TokenStream::Level;

/// Adds a part, null or not, to `node`. Chains make deep trees without deep brackets: the
/// interpreter and the tree's destructor recurse through them.
void add(TokenStream& stream, Expression& node, ExpressionPtr part) {
  constexpr int kMostDepth = 500;
  if (part != nullptr) node.depth = std::max(node.depth, part->depth + 1);
  if (node.depth > kMostDepth) {
    stream.exceed(fmt::format("an expression is more than {} operators deep", kMostDepth));
  }
  node.parts.push_back(std::move(part));
}

struct SignOperator {
  std::string_view sign;
  Operator meaning;
};

constexpr SignOperator kComparisons[] = {
    {"==", Operator::equal}, {"!=", Operator::not_equal}, {"<=", Operator::less_equal},
    {"<", Operator::less},   {">", Operator::greater},    {">=", Operator::greater_equal}};
constexpr SignOperator kSums[] = {{"+", Operator::add}, {"-", Operator::subtract}};
constexpr SignOperator kProducts[] = {{"*", Operator::multiply},
                                      {"/", Operator::divide},
                                      {"//", Operator::floor_divide},
                                      {"%", Operator::modulo}};
constexpr SignOperator kPowers[] = {{"**", Operator::power}};

/// The operator that the current token is, which is then behind.
std::optional<Operator> take(TokenStream& stream, const auto& any) {
  for (const SignOperator& one : any) {
    if (stream.skip_sign(one.sign)) return one.meaning;
  }
  return {};
}

/// A chain of operators of one rank, from the left. A long one makes a deep tree.
template <class Operand>
ExpressionPtr chain(TokenStream& stream, const auto& any, Operand operand) {
  int line = stream.line();
  ExpressionPtr left = operand();
  while (const auto meaning = take(stream, any)) {
    auto node = std::make_unique<Expression>();
    node->kind = ExpressionKind::compute;
    node->line = line;
    node->operators.push_back(*meaning);
    add(stream, *node, std::move(left));
    add(stream, *node, operand());
    left = std::move(node);
    line = stream.line();
  }
  return left;
}

template <class Operand>
ExpressionPtr word_chain(TokenStream& stream, std::string_view word, ExpressionKind kind,
                         Operand operand) {
  const int line = stream.line();
  ExpressionPtr first = operand();
  if (!stream.current().is_name(word)) return first;
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  add(stream, *node, std::move(first));
  while (stream.skip_name(word)) add(stream, *node, operand());
  return node;
}

}  // namespace

ExpressionPtr ExpressionParser::make(ExpressionKind kind, int line) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = line;
  return node;
}

ExpressionPtr ExpressionParser::make(ExpressionKind kind, int line, ExpressionPtr first) const {
  ExpressionPtr node = make(kind, line);
  add(stream_, *node, std::move(first));
  return node;
}

ExpressionPtr ExpressionParser::constant(int line, Value value) const {
  ExpressionPtr node = make(ExpressionKind::constant, line);
  node->value = std::move(value);
  return node;
}

ExpressionPtr ExpressionParser::expression(bool with_condition) {
  const Level deeper(stream_);
  return with_condition ? condition() : either();
}

ExpressionPtr ExpressionParser::condition() {
  const Level deeper(stream_);
  int line = stream_.line();
  ExpressionPtr value = either();
  while (stream_.skip_name("if")) {
    ExpressionPtr node = make(ExpressionKind::condition, line);
    add(stream_, *node, either());
    add(stream_, *node, std::move(value));
    add(stream_, *node, stream_.skip_name("else") ? condition() : nullptr);
    value = std::move(node);
    line = stream_.line();
  }
  return value;
}

ExpressionPtr ExpressionParser::either() {
  return word_chain(stream_, "or", ExpressionKind::either, [this] { return both(); });
}

ExpressionPtr ExpressionParser::both() {
  return word_chain(stream_, "and", ExpressionKind::both, [this] { return negation(); });
}

ExpressionPtr ExpressionParser::negation() {
  const int line = stream_.line();
  if (!stream_.skip_name("not")) return comparison();
  const Level deeper(stream_);
  return make(ExpressionKind::negation, line, negation());
}

ExpressionPtr ExpressionParser::comparison() {
  const int line = stream_.line();
  ExpressionPtr first = sum();
  ExpressionPtr node;
  for (;;) {
    std::optional<Operator> meaning = take(stream_, kComparisons);
    if (!meaning && stream_.skip_name("in")) meaning = Operator::in;
    if (!meaning && stream_.current().is_name("not") && stream_.ahead().is_name("in")) {
      stream_.next();
      stream_.next();
      meaning = Operator::not_in;
    }
    if (!meaning) return node != nullptr ? std::move(node) : std::move(first);
    if (node == nullptr) node = make(ExpressionKind::compare, line, std::move(first));
    node->operators.push_back(*meaning);
    add(stream_, *node, sum());
  }
}

ExpressionPtr ExpressionParser::sum() {
  return chain(stream_, kSums, [this] { return concat(); });
}

ExpressionPtr ExpressionParser::concat() {
  const int line = stream_.line();
  ExpressionPtr first = product();
  if (!stream_.current().is_sign("~")) return first;
  ExpressionPtr node = make(ExpressionKind::concat, line, std::move(first));
  while (stream_.skip_sign("~")) add(stream_, *node, product());
  return node;
}

ExpressionPtr ExpressionParser::product() {
  return chain(stream_, kProducts, [this] { return power(); });
}

ExpressionPtr ExpressionParser::power() {
  return chain(stream_, kPowers, [this] { return unary(); });
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const int line = stream_.line();
  ExpressionPtr node;
  if (stream_.skip_sign("-")) {
    const Level deeper(stream_);
    node = make(ExpressionKind::minus, line, unary(false));
  } else if (stream_.skip_sign("+")) {
    const Level deeper(stream_);
    node = make(ExpressionKind::plus, line, unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::text_constant() {
  const int line = stream_.line();
  std::string text;
  while (stream_.current().kind == TokenKind::text) text += stream_.next().text;
  const std::size_t characters = count_characters(text);
  return constant(
      line, Value(std::make_shared<const Text>(Text{std::move(text), characters, false, {}})));
}

ExpressionPtr ExpressionParser::number() {
  const Token& token = stream_.next();
  const char* const end = token.text.data() + token.text.size();
  if (token.kind == TokenKind::real) {
    double real = 0;
    std::from_chars(token.text.data(), end, real);
    return constant(token.line, Value(real));
  }
  std::int64_t integer = 0;
  const auto result = std::from_chars(token.text.data(), end, integer);
  if (result.ec != std::errc()) {
    stream_.refuse(
        token.line,
        fmt::format("the integer {}, which has more than 64 bits, is not supported", token.text));
  }
  return constant(token.line, Value(integer));
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = stream_.current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::name: {
      const std::string name = stream_.next().text;
      if (name == "true" || name == "True") return constant(line, Value(true));
      if (name == "false" || name == "False") return constant(line, Value(false));
      if (name == "none" || name == "None") return constant(line, Value());
      used_names_.push_back(name);
      ExpressionPtr node = make(ExpressionKind::name, line);
      node->text = name;
      return node;
    }
    case TokenKind::text:
      return text_constant();
    case TokenKind::integer:
    case TokenKind::real:
      return number();
    default:
      break;
  }
  if (token.is_sign("[")) return list();
  if (token.is_sign("{")) return mapping();
  if (!stream_.skip_sign("(")) stream_.fail(fmt::format("unexpected {}", name_of(token)));
  ExpressionPtr inside = tuple(true, {}, true);
  stream_.expect_sign(")");
  return inside;
}

ExpressionPtr ExpressionParser::tuple(bool with_condition, std::string_view end_name,
                                      bool in_brackets) {
  const int line = stream_.line();
  std::vector<ExpressionPtr> parts;
  bool is_tuple = false;
  const auto at_end = [&] {
    const Token& token = stream_.current();
    return token.kind == TokenKind::variable_end || token.kind == TokenKind::block_end ||
           token.is_sign(")") || (!end_name.empty() && token.is_name(end_name));
  };
  while (!at_end()) {
    parts.push_back(expression(with_condition));
    if (!stream_.skip_sign(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty()) return std::move(parts.front());
  if (!is_tuple && !in_brackets) stream_.fail_unexpected("an expression");
  ExpressionPtr node = make(ExpressionKind::tuple, line);
  for (ExpressionPtr& part : parts) add(stream_, *node, std::move(part));
  return node;
}

ExpressionPtr ExpressionParser::list() {
  ExpressionPtr node = make(ExpressionKind::list, stream_.line());
  stream_.expect_sign("[");
  while (!stream_.current().is_sign("]")) {
    add(stream_, *node, expression());
    if (!stream_.skip_sign(",")) break;
  }
  stream_.expect_sign("]");
  return node;
}

ExpressionPtr ExpressionParser::mapping() {
  ExpressionPtr node = make(ExpressionKind::mapping, stream_.line());
  stream_.expect_sign("{");
  while (!stream_.current().is_sign("}")) {
    add(stream_, *node, expression());
    stream_.expect_sign(":");
    add(stream_, *node, expression());
    if (!stream_.skip_sign(",")) break;
  }
  stream_.expect_sign("}");
  return node;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  for (;;) {
    const Token& token = stream_.current();
    if (token.is_sign(".") || token.is_sign("[")) {
      node = subscript(std::move(node));
    } else if (token.is_sign("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr node) {
  for (;;) {
    const Token& token = stream_.current();
    if (token.is_sign("|")) {
      node = filters(std::move(node), false);
    } else if (token.is_name("is")) {
      node = test(std::move(node));
    } else if (token.is_sign("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr node) {
  const int line = stream_.line();
  if (stream_.skip_sign(".")) {
    if (stream_.current().kind == TokenKind::integer) {
      ExpressionPtr item = make(ExpressionKind::item, line, std::move(node));
      add(stream_, *item, number());
      return item;
    }
    ExpressionPtr attribute = make(ExpressionKind::attribute, line, std::move(node));
    attribute->text = stream_.expect_name("a name or a number behind '.'");
    return attribute;
  }
  stream_.expect_sign("[");
  ExpressionPtr first;
  if (!stream_.current().is_sign(":")) first = expression();
  if (stream_.current().is_sign(",")) {
    stream_.refuse(stream_.line(), "a list of items between square brackets is not supported");
  }
  if (first != nullptr && stream_.skip_sign("]")) {
    ExpressionPtr item = make(ExpressionKind::item, line, std::move(node));
    add(stream_, *item, std::move(first));
    return item;
  }
  ExpressionPtr slice = make(ExpressionKind::slice, line, std::move(node));
  add(stream_, *slice, std::move(first));
  for (int i = 0; i < 2; ++i) {  // stop and step
    const bool given = stream_.skip_sign(":") && !stream_.current().is_sign(":") &&
                       !stream_.current().is_sign("]");
    add(stream_, *slice, given ? expression() : nullptr);
  }
  stream_.expect_sign("]");
  return slice;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr node) {
  ExpressionPtr called = make(ExpressionKind::call, stream_.line(), std::move(node));
  arguments(*called);
  return called;
}

/// "(a, b, name=c)", added to the parts of `node`.
void ExpressionParser::arguments(Expression& node) {
  stream_.expect_sign("(");
  while (!stream_.current().is_sign(")")) {
    const Token& token = stream_.current();
    if (token.is_sign("*") || token.is_sign("**")) {
      stream_.refuse(token.line,
                     fmt::format("'{}' in front of an argument is not supported", token.text));
    }
    if (token.kind == TokenKind::name && stream_.ahead().is_sign("=")) {
      std::string name = stream_.next().text;
      stream_.next();
      ExpressionPtr value = expression();
      node.depth = std::max(node.depth, value->depth + 1);
      node.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!node.named.empty()) stream_.fail("an argument without a name behind one with a name");
      add(stream_, node, expression());
    }
    if (!stream_.skip_sign(",")) break;
  }
  stream_.expect_sign(")");
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr input, bool inline_start) {
  ExpressionPtr node = std::move(input);
  while (inline_start || stream_.skip_sign("|")) {
    inline_start = false;
    ExpressionPtr filter = make(ExpressionKind::filter, stream_.line(), std::move(node));
    filter->text = stream_.expect_name("the name of a filter");
    filter->filter = find_filter(filter->text);
    if (stream_.current().is_sign("(")) arguments(*filter);
    node = std::move(filter);
  }
  return node;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr node) {
  const int line = stream_.line();
  stream_.expect(TokenKind::name, "'is'");
  const bool negated = stream_.skip_name("not");
  ExpressionPtr test = make(ExpressionKind::test, line, std::move(node));
  test->text = stream_.expect_name("the name of a test");
  test->test = find_test(test->text);
  const Token& token = stream_.current();
  const bool is_value = token.kind == TokenKind::name || token.kind == TokenKind::text ||
                        token.kind == TokenKind::integer || token.kind == TokenKind::real ||
                        token.is_sign("[") || token.is_sign("{");
  const bool ends = token.is_name("else") || token.is_name("or") || token.is_name("and");
  if (token.is_sign("(")) {
    arguments(*test);
  } else if (is_value && !ends) {
    if (token.is_name("is")) stream_.fail("tests cannot follow each other; use 'and'");
    add(stream_, *test, postfix(primary()));
  }
  return negated ? make(ExpressionKind::negation, line, std::move(test)) : std::move(test);
}

}  // namespace sluice::launcher::jinja
