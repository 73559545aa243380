// The fields of a row that say how its answer is sampled, and where it ends.
#pragma once

#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_row.h"
#include "launcher/jobs/row_fields.h"

namespace sluice::launcher {

/// Reads temperature, top_p, top_k, min_p, repetition_penalty, frequency_penalty,
/// presence_penalty, no_repeat_ngram_size, min_tokens, logit_bias (ids to biases), bad_words (texts
/// or lists of token ids), n, best_of, num_beams, length_penalty, early_stopping, seed, logprobs,
/// echo, stop (text or up to 16), stop_token_ids, ignore_eos and skip_special_tokens. Throws
/// RowProblem.
void read_sampling(const RowFields& fields, const Tokenizer& tokenizer, const ModelLimits& limits,
                   RequestRow& row);

/// After the row's max_tokens is known: throws RowProblem where its min_tokens is above that.
void check_min_tokens(const RowFields& fields, const RequestRow& row);

/// After stop_token_ids are complete: adds the tokens that min_tokens rules out. Throws RowProblem
/// where the rules are more than can travel, or a banned word is the token `eos`, which ends
/// answers.
void finish_rules(std::int32_t eos, RequestRow& row);

}  // namespace sluice::launcher
