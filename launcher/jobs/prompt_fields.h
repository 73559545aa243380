// The prompt of a row: a text, token ids or a conversation; and the choices behind it.
#pragma once

#include <string>
#include <string_view>

#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/row_fields.h"

namespace sluice::launcher {

/// The row's prompt is its messages.
bool is_conversation(const RowFields& fields, RowForm form);

// The others throw RowProblem.

/// Without tokenizing it: no token has more bytes than the longest of the vocabulary, but for
/// blanks beside an added token, which may be part of it. `field`: where the text came from.
void refuse_huge(std::string_view text, const ModelLimits& limits, const char* field);

void read_prompt(const RowFields& fields, const Tokenizer& tokenizer, const ModelLimits& limits,
                 RequestRow& row);

/// The text that the folder's template makes of the row's messages.
std::string chat_text(const RowFields& fields, const ChatTemplate* chat, RowForm form);

/// The template has written BOS and all other special tokens itself.
void read_messages(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                   const ModelLimits& limits, RequestRow& row);

/// A prompt whose embedding is wanted.
void read_embedded(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                   const ModelLimits& limits, RequestRow& row);

/// Prompt and choices. The log-probabilities are the model's, so nothing of sampling is needed.
void read_scored(const RowFields& fields, const Tokenizer& tokenizer, const ChatTemplate* chat,
                 const ModelLimits& limits, RequestRow& row);

}  // namespace sluice::launcher
