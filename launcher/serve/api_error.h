// What is wrong with a request, in OpenAI's form.
#pragma once

#include <string>

#include "launcher/json/json.h"
#include "launcher/serve/http_types.h"

namespace sluice::launcher {

/// Thrown while a request is read, or made into an answer.
struct ApiError {
  int status = 400;
  std::string message;
  std::string param = {};  // the field at fault; empty: none
  std::string code = {};   // "model_not_found"; empty: none
};

/// {"error": {"message", "type", "param", "code"}}.
Json error_body(const ApiError& error);

/// With Retry-After where another try may help.
HttpAnswer error_answer(const ApiError& error);

}  // namespace sluice::launcher
