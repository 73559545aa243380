// The body of /v1/embeddings to rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/jobs/request_row.h"
#include "launcher/json/json.h"
#include "launcher/serve/completion_request.h"

namespace sluice::launcher {

struct EmbeddingForm {
  bool base64 = false;    // of 32-bit floats, the lowest byte first; else a list of numbers
  bool normalize = true;  // to length 1
};

struct EmbeddingRequest {
  EmbeddingForm form;
  std::vector<RequestRow> rows;  // one for each input
};

/// OpenAI's fields (input, encoding_format, dimensions), vLLM's "normalize", and of a row's
/// "embed", "lora", "add_special_tokens". `width`: numbers of an embedding. Throws ApiError.
EmbeddingRequest read_embedding(const Json& body, CompletionParser& parser, std::int32_t width,
                                const std::string& id);

/// One row with an embedding. `param`: the field that its prompt came from. Throws ApiError.
RequestRow embedded_row(Json::Object members, const Json& prompt, const char* param,
                        CompletionParser& parser, const std::string& id);

}  // namespace sluice::launcher
