// The fields of a row whose prompt is not answered: texts that are scored behind it, or an
// embedding.
#pragma once

#include <string_view>

#include "launcher/jobs/request_row.h"
#include "launcher/jobs/row_fields.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

/// The row has choices instead of an answer.
bool has_choices(const Json& object);

/// The row has an embedding instead of an answer.
bool has_embed(const Json& object);

/// Throws RowProblem where the row asks for something that only an answer has. `why`: "a row with
/// choices is scored".
void refuse_answer_fields(const RowFields& fields, const char* why);

/// Reads "embed". Throws RowProblem, also for choices beside it.
stage::Embed read_embed(const RowFields& fields);

/// Reads "choices", a list of texts, and encodes prompt and choices as lm-eval does
/// (lm_eval/api/model.py, TemplateLM._encode_pair):
///
///   - White space at the context's end belongs to the choices.
///   - Context and whole are encoded apart. The whole's tokens behind as many as the context has
///     are the choice's. So where a token would straddle the border, the context keeps its own.
///   - A context without a token is the BOS token, or else the EOS token.
///
/// `add_special`: as Tokenizer::encode() has it. Throws RowProblem.
void read_choices(const RowFields& fields, std::string_view context, const Tokenizer& tokenizer,
                  bool add_special, RequestRow& row);

/// Reads "choices", a list of lists of token ids, of a row whose prompt is ids. Throws RowProblem.
void read_choice_ids(const RowFields& fields, const Tokenizer& tokenizer, RequestRow& row);

}  // namespace sluice::launcher
