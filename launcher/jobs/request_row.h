// A prompt of a job, checked and tokenized, and what is said of one that cannot be answered.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "launcher/jobs/beam_search.h"
#include "stage/request.h"
#include "stage/token_rules.h"

namespace sluice::launcher {

/// Which form the row has, and so its answer.
enum class RowForm : std::uint8_t {
  plain,  // {"custom_id": ..., "prompt" or "messages": ...}, or a line of text
  batch,  // OpenAI's batch form, {"custom_id": ..., "method": "POST", "url": ..., "body": {...}}
  chat,   // the same for /v1/chat/completions
};

/// Whose a row's custom_id is.
enum class Naming : std::uint8_t {
  given,    // the input's
  made_up,  // ours: row-N, of its line
  none,     // the input has none for it, and gives row-N to another: null in the record
};

/// A text that is scored behind the row's prompt.
struct Choice {
  std::string text;                  // as it was given; of ids, what they decode to
  std::vector<std::int32_t> tokens;  // >= 1, of which each has a score
};

struct RequestRow {
  std::int64_t line = 0;  // of the input, from 1
  std::string custom_id;
  Naming naming = Naming::given;
  RowForm form = RowForm::plain;
  std::vector<std::int32_t> prompt;
  std::string prompt_text;  // with echo only: the prompt as it is given back
  std::int32_t max_tokens = 0;
  std::int32_t n = 1;        // answers in the record
  std::int32_t best_of = 1;  // >= n: of which those are the likeliest; without a beam search
  BeamSettings beams;        // beams 1: no search
  stage::Sampling sampling;
  stage::TokenRules rules;
  stage::SharedGrammar grammar;  // what the answer must be; null: anything
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool skip_special = true;  // the text leaves special tokens out
  bool echo = false;
  /// Scored instead of an answer, with max_tokens 0. Each is a request of its own.
  std::vector<Choice> choices;
  /// In place of an answer, with max_tokens 0: of the prompt's hidden states.
  stage::Embed embed = stage::Embed::none;
  std::int32_t adapter = -1;         // of the run's adapters; -1: none
  std::uint64_t adapter_digest = 0;  // ... and what it is
  std::string kept_fields;  // a JSON object of fields that are not ours, to be given back; or empty

  bool wants_logprobs() const { return sampling.logprobs >= 0; }
  /// ... or the answers are compared by them.
  bool needs_logprobs() const { return wants_logprobs() || best_of > n; }
};

struct RowFailure {
  std::int64_t line = 0;
  std::string custom_id;
  RowForm form = RowForm::plain;
  std::string message;
  std::string param;  // the field at fault; empty: none
  std::string code;   // kDuplicateCustomId, kContextLength; empty: none
  bool ours = false;  // the row was right, answering it failed
  Naming naming = Naming::given;
  std::string kept_fields = {};  // as of a RequestRow
};

constexpr const char* kDuplicateCustomId = "duplicate_custom_id";
constexpr const char* kContextLength = "context_length_exceeded";  // OpenAI's

/// Tokens of a sequence; the answer's as many as it may have.
struct RowTokens {
  std::int32_t prompt = 0;
  std::int32_t answer = 0;
  std::int32_t shared = 0;  // of the prompt: those that the sequence before it begins with, too
};

/// What a run must be made for, known before it starts.
struct JobScan {
  std::int64_t rows = 0;      // right or wrong, answered already or not; 0: not known
  std::int64_t answered = 0;  // ... of which a resumed job's output has so many
  /// No row has more tokens, prompt and answer: Batching::max_sequence_tokens.
  std::int32_t longest_sequence = 0;
  /// The longest of those that were looked at: Batching::usual_sequence_tokens; 0: none was.
  std::int32_t usual_sequence = 0;
  /// No row has more rules: Batching::max_rule_words.
  std::int32_t most_rule_words = 0;
  bool grammars = false;  // rows may have one: Batching::grammars
  bool features = false;  // rows may ask for embeddings: Batching::features
  /// The sequences of the first rows that were looked at, in their order: one for each of a row's
  /// answers or choices. A prediction takes the others to be like them.
  std::vector<RowTokens> looked_at = {};
  std::int64_t rows_looked_at = 0;             // ... and how many rows these are
  std::vector<std::int32_t> last_prompt = {};  // of the last of them
  std::int32_t last_adapter = -1;

  /// That so many rows become.
  std::int64_t sequences_of(std::int64_t of_rows) const {
    if (rows_looked_at == 0) return of_rows;
    const double each = static_cast<double>(looked_at.size()) / static_cast<double>(rows_looked_at);
    return std::llround(each * static_cast<double>(of_rows));
  }
};

/// What a run took from the journal of an earlier one.
struct JournalUse {
  std::int64_t restored_tokens = 0;  // of answers
  /// Of rows that had been begun: prompts, and answers so far, which go through prefill again.
  std::int64_t recomputed_tokens = 0;
};

/// Takes the length of a row into account.
void add_to_scan(const RequestRow& row, JobScan& scan);

/// Requests that a row takes, >= 1; of a beam search those of its first step.
std::size_t parts_of(const RequestRow& row);
/// Most tokens of the row's longest request, prompt and answer.
std::int64_t longest_request(const RequestRow& row);

/// What stage::Job::next() hands out for a row, of its requests the one of this index. The seed of
/// the first is the row's, so that its answer is that of the row without further ones.
stage::Request to_request(const RequestRow& row, std::uint64_t id, std::size_t part = 0);

}  // namespace sluice::launcher
