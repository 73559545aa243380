// A template's source to tokens, with the white space that transformers' settings leave:
// trim_blocks and lstrip_blocks are on, one line end at the end of the source is dropped. Source:
// Jinja's lexer.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/chat/jinja/template_error.h"

namespace sluice::launcher::jinja {

enum class TokenKind : std::uint8_t {
  data,            // text outside of tags
  variable_begin,  // {{
  variable_end,
  block_begin,  // {%
  block_end,
  name,
  text,     // a quoted text, without quotation marks and escapes
  integer,  // digits in base 10
  real,
  sign,  // an operator or a bracket
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;
  int line = 1;

  bool is_name(std::string_view name) const { return kind == TokenKind::name && text == name; }
  bool is_sign(std::string_view sign) const { return kind == TokenKind::sign && text == sign; }
};

/// Ends with a token of the kind `end`. `where` names the template in errors. Throws TemplateError
/// (syntax) for what Jinja's lexer refuses.
std::vector<Token> read_tokens(std::string_view source, const std::string& where);

/// The token as an error names it.
std::string name_of(const Token& token);

}  // namespace sluice::launcher::jinja
