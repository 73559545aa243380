// The endpoints that ask the tokenizer alone, in vLLM's form.
#pragma once

#include "launcher/json/json.h"
#include "launcher/serve/served_model.h"

namespace sluice::launcher {

/// {"prompt" or "messages", "add_special_tokens", "return_token_strs"} to {"count",
/// "max_model_len", "tokens", "token_strs"}. Throws ApiError.
Json tokenize_answer(const ServedModel& served, const Json& body);
/// {"tokens"} to {"prompt"}. Throws ApiError.
Json detokenize_answer(const ServedModel& served, const Json& body);
/// {"bos_token", "eos_token", "pad_token", ...}.
Json tokenizer_info(const ServedModel& served);

}  // namespace sluice::launcher
