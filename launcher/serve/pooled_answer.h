// Answers of rows that have no text: embeddings and scores.
#pragma once

#include <span>
#include <vector>

#include "launcher/json/json.h"
#include "launcher/serve/completion_name.h"
#include "launcher/serve/embedding_request.h"
#include "launcher/serve/score_request.h"
#include "launcher/serve/whole_exchange.h"

namespace sluice::launcher {

/// {"id", "object": "list", "created", "model", "data": [{"object", "index", "embedding"}],
/// "usage"}.
Json embedding_answer(const EmbeddingForm& form, const CompletionName& name,
                      const WholeExchange::Rows& rows);

/// Of pairs {"id", "object": "list", "created", "model", "data": [{"index", "object": "score",
/// "score"}], "usage"}, where the score is the cosine of the embeddings; of choices
/// {"id", "object": "score", "created", "model", and score_members()}.
Json score_answer(const ScoreForm& form, const CompletionName& name,
                  const WholeExchange::Rows& rows);

/// The numbers in length 1; zeros stay.
std::vector<float> normalized(std::span<const float> values);

}  // namespace sluice::launcher
