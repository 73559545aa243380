// Answers and errors as lines of JSON, in the form their row came in.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "launcher/jobs/answer.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

struct AnswerForm {
  std::string model;         // the batch form names it
  std::int64_t created = 0;  // Unix seconds, of the batch form
};

/// Plain rows: {"custom_id", "text", "token_ids", "finish_reason", "usage", "logprobs" if asked
/// for, "score" of a beam search}; where the row asks for several answers, {"custom_id", "choices":
/// [{"index", and those}, ...], "usage"}. Batch rows: OpenAI's {"id", "custom_id", "response":
/// {..., "body": <text completion, or chat completion>}, "error"}. A chat completion's message has
/// all of the answer as its content: tool calls of models are not read out of it. With echo the
/// text begins with the prompt, and logprobs with the prompt's tokens, of which the first has null.
/// logprobs.text_offset counts characters of the text; a token without text of its own there (BOS,
/// EOS, what was cut off) has the offset of its place. A token that is a part of a character is
/// written as "bytes:\xE2\x82", so that no two tokens look alike. The plain form's token_ids are
/// those of the answer, without the prompt's. Fields that the row keeps stand at the end, in an
/// object "fields": their names may be ours ("text").
///
/// A row with choices: {"custom_id", and score_members()}; a row with embed {"custom_id",
/// "embedding": [floats], "usage"}. Of the batch form these are the body's.
/// `answers`: of all of the row's requests, in their order.
std::string answer_record(std::span<const Answer> answers, const AnswerForm& form);
inline std::string answer_record(const Answer& answer, const AnswerForm& form) {
  return answer_record(std::span(&answer, 1), form);
}

/// A row whose custom_id is null (Naming::none) has its "line" beside it, in answers and failures.
/// Plain rows: {"custom_id", "line", "error": {"message", "type", "param"}}; batch rows: a response
/// with status_code 400 (or 500) and the error in its body, as OpenAI's.
std::string failure_record(const RowFailure& failure);

}  // namespace sluice::launcher
