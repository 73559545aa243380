// The scores of a row's choices, as the members of its record.
#pragma once

#include <span>

#include "launcher/jobs/answer.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// "scores": for each choice {"text", "logprob", "logprob_per_token", "logprob_per_byte",
/// "token_ids", "token_logprobs"}, where logprob is the sum of its tokens'; "best",
/// "best_per_token", "best_per_byte": the index of the choice that is likeliest by each (of equal
/// ones the first); "usage". By bytes are those of the text, of which a choice of ids may have
/// none: then null. `answers`: one for each choice of their row, all through their prompts.
Json::Object score_members(std::span<const Answer> answers);

/// JSON has no infinity; OpenAI's clients take -9999 for "never".
float finite_logprob(float logprob);

}  // namespace sluice::launcher
