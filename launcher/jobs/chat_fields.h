// The fields of a row that only conversations have.
#pragma once

#include <string_view>

#include "launcher/chat/chat_template.h"
#include "launcher/jobs/request_row.h"
#include "launcher/jobs/row_fields.h"

namespace sluice::launcher {

/// The row is a conversation: it has messages instead of a prompt.
bool has_messages(const Json& object);
/// A field that means something beside messages, besides those of every row.
bool is_chat_field(std::string_view name);

/// The row's conversation. Throws RowProblem. In OpenAI's form (RowForm::chat) the arguments of a
/// tool call are JSON in a text; templates get them as the object that the text says, as other
/// servers give it.
Chat chat_of(const RowFields& fields, RowForm form);

/// OpenAI's "logprobs": true and "top_logprobs": n. Throws RowProblem.
void read_chat_logprobs(const RowFields& fields, RequestRow& row);

/// Throws RowProblem for what sluice does not do: a tool_choice that asks for something.
void refuse_foreign_chat_fields(const RowFields& fields);

}  // namespace sluice::launcher
