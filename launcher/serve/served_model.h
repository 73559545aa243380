// What a server answers by: the model as its clients see it, and the job that answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/chat/chat_template.h"
#include "launcher/config/run_config.h"
#include "launcher/config/serve_arguments.h"
#include "launcher/jobs/request_row.h"
#include "launcher/model/opened_model.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/serve_job.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

struct ServedModel {
  /// Opens tokenizer and template. Throws InputError, and ConfigError for a --max-model-len that
  /// the model has not, or an adapter that is called as the model is.
  ServedModel(const RunConfig& config, const ServeArguments& arguments, const OpenedModel& opened);

  /// What the run must be made for.
  JobScan scan() const;

  const std::vector<std::string> names;  // what clients call it; the first is shown
  const std::int64_t created;            // Unix seconds: when it was opened
  const ModelLimits limits;              // with the adapters, which are models to clients
  const std::int32_t features;           // numbers of an embedding
  const Tokenizer tokenizer;
  const ChatTemplate chat;
  CompletionParser parser;
  ServeJob job;
};

}  // namespace sluice::launcher
