// Statements. Source: Jinja's parser.py, and the extensions that transformers loads: loopcontrols
// and the tag `generation`.
#include "launcher/chat/jinja/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "launcher/chat/jinja/expression_parser.h"
#include "launcher/chat/jinja/token_stream.h"

namespace sluice::launcher::jinja {
namespace {

using Level = TokenStream::Level;
using Words = std::initializer_list<std::string_view>;

constexpr std::string_view kUnsupportedTags[] = {
    "autoescape", "block", "debug", "do", "extends", "from", "import", "include", "trans"};

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& where)
      : stream_(std::move(tokens), where), expressions_(stream_) {}

  Body parse() { return statements_until({}); }

 private:
  /// Up to a tag that is one of `ends`, whose name is then the current token; or to the end of the
  /// template where `ends` is empty.
  Body statements_until(Words ends) {
    Body body;
    for (;;) {
      const Token& token = stream_.current();
      switch (token.kind) {
        case TokenKind::data:
          body.push_back(make(StatementKind::data));
          body.back().text = stream_.next().text;
          break;
        case TokenKind::variable_begin:
          stream_.next();
          body.push_back(make(StatementKind::output));
          body.back().expressions.push_back(expressions_.tuple());
          stream_.expect(TokenKind::variable_end, "'}}'");
          break;
        case TokenKind::block_begin: {
          stream_.next();
          const Token& tag = stream_.current();
          if (std::ranges::any_of(ends, [&](auto end) { return tag.is_name(end); })) return body;
          body.push_back(statement(ends));
          if (stream_.current().kind == TokenKind::block_end) stream_.next();
          break;
        }
        default:
          if (ends.size() == 0) return body;
          stream_.fail(fmt::format("the template ends inside of a block; write {{% {} %}}",
                                   *(ends.end() - 1)));
      }
    }
  }

  Statement make(StatementKind kind) {
    Statement made;
    made.kind = kind;
    made.line = stream_.line();
    return made;
  }

  /// The body of a tag whose own end is the current token.
  Body body_until(Words ends) {
    stream_.skip_sign(":");
    if (stream_.current().kind != TokenKind::block_end) stream_.fail_unexpected("'%}'");
    stream_.next();
    return statements_until(ends);
  }
  Body body_to_end(std::string_view end) {
    Body body = body_until({end});
    stream_.next();
    return body;
  }

  Statement statement(Words ends) {
    const Level deeper(stream_);
    const int line = stream_.line();
    if (stream_.current().kind != TokenKind::name) stream_.fail_unexpected("the name of a tag");
    const std::string tag = stream_.next().text;
    Statement made = statement_of(tag, line, ends);
    made.line = line;
    if (stream_.current().kind != TokenKind::block_end) stream_.fail_unexpected("'%}'");
    return made;
  }

  Statement statement_of(const std::string& tag, int line, Words ends) {
    if (tag == "if") return if_tag();
    if (tag == "for") return for_tag();
    if (tag == "set") return set_tag();
    if (tag == "macro") return macro_tag();
    if (tag == "call") return call_tag();
    if (tag == "filter") return filter_tag();
    if (tag == "with") return with_tag();
    if (tag == "generation") {
      Statement made = make(StatementKind::scope);
      made.bodies.push_back(body_without_loops("endgeneration"));
      return made;
    }
    if (tag == "print") {
      Statement made = make(StatementKind::output);
      while (stream_.current().kind != TokenKind::block_end) {
        made.expressions.push_back(expressions_.expression());
        if (!stream_.skip_sign(",")) break;
      }
      return made;
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) stream_.fail(line, fmt::format("'{}' outside of a loop", tag));
      return make(tag == "break" ? StatementKind::break_loop : StatementKind::continue_loop);
    }
    if (std::ranges::find(kUnsupportedTags, tag) != std::end(kUnsupportedTags)) {
      stream_.refuse(line, fmt::format("the tag '{}' is not supported", tag));
    }
    if (ends.size() > 0) {
      stream_.fail(line, fmt::format("unexpected tag '{}'; the block that is open ends with '{}'",
                                     tag, *(ends.end() - 1)));
    }
    stream_.fail(line, fmt::format("there is no tag '{}'", tag));
  }

  Statement if_tag() {
    Statement made = make(StatementKind::condition);
    for (;;) {
      made.expressions.push_back(expressions_.tuple(false));
      made.bodies.push_back(body_until({"elif", "else", "endif"}));
      if (stream_.skip_name("elif")) continue;
      if (stream_.skip_name("else")) {
        made.expressions.push_back(nullptr);
        made.bodies.push_back(body_until({"endif"}));
      }
      stream_.next();
      return made;
    }
  }

  Statement for_tag() {
    Statement made = make(StatementKind::loop);
    made.targets.push_back(target(false, "in"));
    if (!stream_.skip_name("in")) stream_.fail_unexpected("'in'");
    made.expressions.push_back(expressions_.tuple(false, "recursive"));
    made.expressions.push_back(stream_.skip_name("if") ? expressions_.expression() : nullptr);
    if (stream_.current().is_name("recursive")) {
      stream_.refuse(stream_.line(), "a loop with 'recursive' is not supported; use a macro");
    }
    ++loops_;
    made.bodies.push_back(body_until({"else", "endfor"}));
    --loops_;
    if (stream_.skip_name("else")) {
      made.bodies.push_back(body_until({"endfor"}));
    } else {
      made.bodies.emplace_back();
    }
    stream_.next();
    return made;
  }

  Statement set_tag() {
    Statement made = make(StatementKind::set);
    made.targets.push_back(target(true, {}));
    if (stream_.skip_sign("=")) {
      made.expressions.push_back(expressions_.tuple());
      return made;
    }
    made.kind = StatementKind::set_block;
    made.expressions.push_back(expressions_.filters(nullptr, false));
    made.bodies.push_back(body_to_end("endset"));
    return made;
  }

  /// Names with commas between them; `with_attributes`: "ns.x" is one too.
  Target target(bool with_attributes, std::string_view end_name) {
    Target all;
    for (;;) {
      const Token& token = stream_.current();
      if (all.is_tuple && (token.is_sign("=") || token.is_sign(")") || token.is_name(end_name))) {
        break;
      }
      all.parts.push_back(one_target(with_attributes, end_name));
      if (!stream_.skip_sign(",")) break;
      all.is_tuple = true;
    }
    if (!all.is_tuple) {
      Target only = std::move(all.parts.front());
      return only;
    }
    return all;
  }

  Target one_target(bool with_attributes, std::string_view end_name) {
    const Level deeper(stream_);
    if (stream_.skip_sign("(")) {
      Target inside = target(with_attributes, end_name);
      stream_.expect_sign(")");
      return inside;
    }
    Target one;
    const int line = stream_.line();
    one.name = stream_.expect_name("a name to set");
    constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
    if (std::ranges::find(kReserved, one.name) != std::end(kReserved)) {
      stream_.fail(line, fmt::format("can't assign to '{}'", one.name));
    }
    if (with_attributes && stream_.skip_sign(".")) {
      one.attribute = stream_.expect_name("a name behind '.'");
    }
    return one;
  }

  /// "(a, b=1)".
  void signature(Signature& made) {
    stream_.expect_sign("(");
    while (!stream_.current().is_sign(")")) {
      made.names.push_back(stream_.expect_name("the name of a parameter"));
      if (stream_.skip_sign("=")) {
        made.defaults.push_back(expressions_.expression());
      } else if (!made.defaults.empty()) {
        stream_.fail("a parameter without a default behind one that has one");
      }
      if (!stream_.skip_sign(",")) break;
    }
    stream_.expect_sign(")");
  }

  /// A body that is a function of its own: loops around it are not its own.
  Body body_without_loops(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = body_to_end(end);
    loops_ = loops;
    return body;
  }

  Body function_body(std::string_view end, Signature& made) {
    std::vector<std::string> outer = std::exchange(expressions_.used_names(), {});
    Body body = body_without_loops(end);
    std::vector<std::string>& used = expressions_.used_names();
    const auto uses = [&](std::string_view name) { return std::ranges::count(used, name) > 0; };
    made.takes_caller = uses("caller");
    made.takes_varargs = uses("varargs");
    made.takes_kwargs = uses("kwargs");
    used.insert(used.end(), outer.begin(), outer.end());
    return body;
  }

  Statement macro_tag() {
    Statement made = make(StatementKind::macro);
    made.text = stream_.expect_name("the name of a macro");
    auto parameters = std::make_shared<Signature>();
    signature(*parameters);
    made.bodies.push_back(function_body("endmacro", *parameters));
    made.signature = std::move(parameters);
    return made;
  }

  Statement call_tag() {
    Statement made = make(StatementKind::call);
    auto parameters = std::make_shared<Signature>();
    if (stream_.current().is_sign("(")) signature(*parameters);
    made.expressions.push_back(expressions_.expression());
    if (made.expressions.front()->kind != ExpressionKind::call) {
      stream_.fail("expected the call of a macro behind 'call'");
    }
    made.bodies.push_back(function_body("endcall", *parameters));
    made.signature = std::move(parameters);
    return made;
  }

  Statement filter_tag() {
    Statement made = make(StatementKind::filter);
    made.expressions.push_back(expressions_.filters(nullptr, true));
    made.bodies.push_back(body_to_end("endfilter"));
    return made;
  }

  Statement with_tag() {
    Statement made = make(StatementKind::scope);
    while (stream_.current().kind != TokenKind::block_end) {
      if (!made.targets.empty()) stream_.expect_sign(",");
      made.targets.push_back(one_target(false, {}));
      stream_.expect_sign("=");
      made.expressions.push_back(expressions_.expression());
    }
    made.bodies.push_back(body_to_end("endwith"));
    return made;
  }

  TokenStream stream_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around the current statement, in the same function
};

}  // namespace

Body parse_template(std::string_view source, const std::string& where) {
  return Parser(read_tokens(source, where), where).parse();
}

}  // namespace sluice::launcher::jinja
