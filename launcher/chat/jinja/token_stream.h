// The tokens of a template as a parser reads them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/lexer.h"

namespace sluice::launcher::jinja {

class TokenStream {
 public:
  TokenStream(std::vector<Token> tokens, const std::string& where)
      : where_(where), tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  int line() const { return current().line; }
  /// The current token, which is then behind. The last one stays current.
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }

  bool skip_name(std::string_view name) {
    const bool found = current().is_name(name);
    if (found) next();
    return found;
  }
  bool skip_sign(std::string_view sign) {
    const bool found = current().is_sign(sign);
    if (found) next();
    return found;
  }
  void expect_sign(std::string_view sign);
  void expect(TokenKind kind, std::string_view wanted);
  std::string expect_name(std::string_view wanted);

  [[noreturn]] void fail(const std::string& message) const { fail(line(), message); }
  [[noreturn]] void fail(int line, const std::string& message) const {
    throw TemplateError(TemplateError::Kind::syntax, where_, line, message);
  }
  [[noreturn]] void refuse(int line, const std::string& message) const {
    throw TemplateError(TemplateError::Kind::unsupported, where_, line, message);
  }
  [[noreturn]] void exceed(const std::string& message) const {
    throw TemplateError(TemplateError::Kind::limit, where_, line(), message);
  }
  [[noreturn]] void fail_unexpected(std::string_view wanted) const;

  /// One level deeper, in brackets or blocks, for as long as it lives.
  class Level {
   public:
    explicit Level(TokenStream& stream);
    ~Level() { --stream_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenStream& stream_;
  };

 private:
  const std::string& where_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace sluice::launcher::jinja
