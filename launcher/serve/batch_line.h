// A line of a batch's input to what it asks, and an answer to a line of its output.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/json/json.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {

struct BatchLine {
  std::int64_t number = 0;  // of the line, from 1
  std::string custom_id;    // empty with named false: the line has none that can be read
  bool named = false;
  Json body;
  std::optional<ApiError> problem;  // why the line cannot be answered

  /// In FinishedRows: of its custom_id, or of its line.
  std::uint64_t key() const;
};

/// {"custom_id", "method": "POST", "url", "body"}, of which `url` must be the batch's. Never throws
/// for what it reads.
BatchLine read_batch_line(std::string_view text, std::int64_t number, std::string_view endpoint);

/// OpenAI's {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null},
/// without a line end, which facts_of() can read. A line without a custom_id has null, and its
/// number as "line". `body`: JSON on one line.
std::string batch_record(const BatchLine& line, int status, const std::string& body);

}  // namespace sluice::launcher
