// The body of a request for completions to rows, as a job's input has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/jobs/request_parser.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

enum class CompletionKind : std::uint8_t { text, chat };

struct CompletionRequest {
  bool stream = false;
  bool include_usage = false;
  bool return_token_ids = false;  // vLLM's: the ids of answers beside their texts
  std::vector<RequestRow> rows;   // one for each prompt
};

/// Any thread.
class CompletionParser {
 public:
  /// `texts` and `chats` differ in what a request gets that does not say otherwise.
  CompletionParser(RequestParser texts, RequestParser chats)
      : texts_(std::move(texts)), chats_(std::move(chats)) {}

  /// OpenAI's fields, those of a row and vLLM's. "model" is the caller's to look at. `id` names the
  /// request: the seeds of prompts that bring none are made of it. Throws ApiError.
  CompletionRequest parse(const Json& body, CompletionKind kind, const std::string& id);

  /// One row with all fields that rows have, choices and embed too. Throws ApiError.
  RequestRow parse_row(const Json& body, CompletionKind kind, const std::string& id);

  /// One sentence for each name of an unknown field met since the last call.
  std::vector<std::string> take_warnings();

 private:
  RequestParser texts_;
  RequestParser chats_;
  std::mutex mutex_;  // of what the parsers know of earlier rows
};

/// A request's body. Throws ApiError: it is no JSON object, or is nested too deeply.
Json parse_body(const std::string& body);

/// `body` without these fields, which are the server's own business.
Json::Object without(const Json& body, std::initializer_list<std::string_view> names);

constexpr std::size_t kMostPrompts = 2048;  // of a request

/// The field as a text; empty where it is absent or null. Throws ApiError.
std::string text_field(const Json& body, const char* name);

/// Messages whose content is a list of texts, as OpenAI allows it, with one text in its place.
/// Throws ApiError for contents that are no text.
Json with_plain_contents(const Json& messages);

}  // namespace sluice::launcher
