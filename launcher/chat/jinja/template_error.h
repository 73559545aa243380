// Why a template gives no text.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device/error.h"

namespace sluice::launcher::jinja {

class TemplateError : public InputError {
 public:
  enum class Kind : std::uint8_t {
    syntax,       // the source is no template
    unsupported,  // a tag, filter, test, method or form of Jinja that this interpreter lacks
    failed,       // what Python would answer with an exception: a type error, an undefined name
    raised,       // the template called raise_exception(message)
    limit,        // a step, a depth or a size beyond Limits
  };

  /// `where`: what the template is called; what() is "where, line N: message".
  TemplateError(Kind kind, const std::string& where, int line, const std::string& message)
      : InputError(where + ", line " + std::to_string(line) + ": " + message),
        kind_(kind),
        line_(line),
        message_(message) {}

  Kind kind() const { return kind_; }
  int line() const { return line_; }  // of the template, from 1
  /// Without place. For Kind::raised: what the template said.
  const std::string& message() const { return message_; }

 private:
  Kind kind_;
  int line_;
  std::string message_;
};

}  // namespace sluice::launcher::jinja
