// A line of input to a request: the one place where the types and ranges of its fields are checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/jobs/grammar_fields.h"
#include "launcher/jobs/request_row.h"
#include "launcher/jobs/unknown_fields.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

class ChatTemplate;

struct KnownAdapter {
  std::string name;
  std::uint64_t digest = 0;  // of what it is
};

struct ModelLimits {
  std::int32_t vocabulary = 0;
  std::int32_t positions = 0;           // prompt + max_tokens
  std::size_t longest_token_bytes = 0;  // the parser finds it out
  /// Further ids that end an answer as the model's EOS does: of rows that do not ignore it.
  std::vector<std::int32_t> further_eos = {};
  std::vector<KnownAdapter> adapters = {};  // of the run, by number: rows may name them
  std::int32_t eos = -1;                    // ends an answer by itself; -1: the tokenizer's
};

/// The seed of a request that names none: of the run's seed and the custom_id alone, so that a
/// result does not depend on which rows it shares a file with.
std::uint64_t default_seed(std::uint64_t run_seed, std::string_view custom_id);

/// "row-7": the custom_id of a row that has none.
std::string default_custom_id(std::int64_t line);

/// Makes a row of sluice's plain form out of a line's object, where the input has another form. Its
/// custom_id is not read. Throws RowProblem. Any thread.
using RowTranslation = std::function<Json(const Json& object)>;

/// A row, or what is wrong with it.
using ParsedRow = std::variant<RequestRow, RowFailure>;

/// What a line says by itself. RequestParser::settle() adds what the lines before it say.
struct RowDraft {
  ParsedRow row;
  bool has_form = false;  // the line has a form of its own
  bool left_out = false;  // the output has its answer: the row has no prompt
  std::vector<UnknownField> unknown_fields;
};

/// Fields, all optional but prompt: custom_id, prompt (text or token ids), max_tokens, those of
/// sampling_fields.h, add_special_tokens, choices (choice_fields.h); null counts as absent. A text
/// prompt gets the model's BOS token unless add_special_tokens is false, token ids are taken as
/// they are. `max_tokens` that is not given is cut to what the model's positions leave. In place of
/// a prompt a row may have messages (chat_fields.h), of which the model folder's chat template
/// makes the text.
class RequestParser {
 public:
  /// `tokenizer` and `chat` must outlive it. `defaults.sampling.seed` is the run's seed. Without
  /// `chat` rows with messages are refused. `translate`: empty for rows of sluice's own forms.
  RequestParser(const Tokenizer& tokenizer, GenerationDefaults defaults, ModelLimits limits,
                const ChatTemplate* chat = nullptr,
                UnknownFieldRule rule = UnknownFieldRule::ignore, RowTranslation translate = {});

  /// Whether the output has the answer of a row, by its line, custom_id and naming. Such a row is
  /// not tokenized: it is given back without a prompt.
  using IsAnswered = std::function<bool(const RequestRow& row)>;

  /// A line of JSON, in the short form or OpenAI's batch form. Never throws for what it reads.
  /// Any thread may call it that may call `is_answered`.
  RowDraft draft_json(std::string_view line, std::int64_t number,
                      const IsAnswered& is_answered = {}) const;
  /// The same of a request that no line of an input holds: the body of OpenAI's completion (`form`
  /// RowForm::batch) or chat completion, whose seed, if it has none, is made of `id`.
  RowDraft draft_body(const Json& body, RowForm form, std::string id) const;
  /// A prompt without fields of its own. As above.
  RowDraft draft_text(std::string_view prompt, std::int64_t number,
                      const IsAnswered& is_answered = {}) const;
  /// The row of a draft. To be called in the input's order: a line that is no JSON is answered in
  /// the form of the row before it, and only the first line with an unknown field is warned of.
  ParsedRow settle(RowDraft draft);

  ParsedRow parse_json(std::string_view line, std::int64_t number) {
    return settle(draft_json(line, number));
  }
  ParsedRow parse_text(std::string_view prompt, std::int64_t number) {
    return settle(draft_text(prompt, number));
  }

  /// The most bytes of text that the line's prompt and longest choice have: rendered where the line
  /// has messages, translated where it is of another form, or else those of the line.
  std::size_t prompt_bytes(std::string_view line) const;
  bool translates() const { return translate_ != nullptr; }

  /// One sentence for each name of an unknown field met since the last call.
  std::vector<std::string> take_warnings() { return std::exchange(warnings_, {}); }

  std::int32_t default_max_tokens() const { return defaults_.max_new_tokens; }
  std::int32_t positions() const { return limits_.positions; }
  /// Rows that do not say otherwise have rules.
  bool rules_by_default() const { return defaults_.sampling.min_tokens > 0; }

 private:
  RequestRow with_defaults(std::int64_t number) const;
  /// What is known once all fields are read. Throws RowProblem.
  void finish(RequestRow& row) const;
  std::int32_t eos() const { return limits_.eos >= 0 ? limits_.eos : tokenizer_.eos(); }
  void read_body(const Json& request, RequestRow& row) const;
  void warn(std::int64_t number, const UnknownField& field);

  const Tokenizer& tokenizer_;
  const ChatTemplate* chat_;
  UnknownFieldRule rule_;
  RowTranslation translate_;
  GenerationDefaults defaults_;
  ModelLimits limits_;
  std::shared_ptr<GrammarCache> grammars_;  // of copies, too
  std::set<std::string> warned_;
  std::vector<std::string> warnings_;
  RowForm last_form_ = RowForm::plain;  // of the last row that had one
};

}  // namespace sluice::launcher
