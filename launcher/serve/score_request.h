// The body of /v1/score to rows: pairs of texts that are compared, or choices behind a prompt.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "launcher/json/json.h"
#include "launcher/serve/completion_request.h"

namespace sluice::launcher {

struct ScoreForm {
  bool choices = false;    // of one row, whose choices are scored
  std::size_t firsts = 0;  // else so many rows of text_1, and behind them those of text_2
};

struct ScoreRequest {
  ScoreForm form;
  std::vector<RequestRow> rows;
};

/// vLLM's text_1 and text_2: a text and a list, or two lists of the same length; or a row with
/// prompt (or messages) and choices. Throws ApiError.
ScoreRequest read_score(const Json& body, CompletionParser& parser, const std::string& id);

}  // namespace sluice::launcher
