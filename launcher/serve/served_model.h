// What a server answers by: the model as its clients see it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/chat/chat_template.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/serve_job.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

struct ServedModel {
  std::vector<std::string> names;  // what clients call it; the first is shown
  std::int64_t created = 0;        // Unix seconds: when the server began
  std::int32_t max_model_len = 0;  // tokens of prompt and answer
  std::int32_t vocabulary = 0;
  const Tokenizer& tokenizer;
  const ChatTemplate& chat;
  CompletionParser& parser;
  ServeJob& job;
};

}  // namespace sluice::launcher
