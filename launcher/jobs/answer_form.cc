#include "launcher/jobs/answer_form.h"

#include <fmt/format.h>

#include <string_view>

#include "launcher/jobs/choice_form.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/score_form.h"
#include "launcher/json/json.h"

namespace sluice::launcher {
namespace {

/// A name for the row's answer that is the same in every run.
std::string digits_of(const std::string& custom_id, std::int64_t line) {
  return fmt::format("{:016x}", default_seed(static_cast<std::uint64_t>(line), custom_id));
}

Json batch_response(const std::string& digits, int status, Json body) {
  return {{"status_code", status}, {"request_id", "req_" + digits}, {"body", std::move(body)}};
}

/// A record that has no name of its own says its line.
template <class Row>
void add_name(Json& record, const Row& row) {
  record["custom_id"] = row.naming == Naming::none ? Json() : Json(row.custom_id);
  if (row.naming == Naming::none) record["line"] = row.line;
}

template <class Row>
Json batch_record(const Row& row, int status, Json body) {
  const std::string digits = digits_of(row.custom_id, row.line);
  Json record = {{"id", "batch_req_" + digits}};
  add_name(record, row);
  record["response"] = batch_response(digits, status, std::move(body));
  record["error"] = nullptr;
  return record;
}

/// OpenAI's completion of a text or a chat.
Json completion_of(std::span<const Answer> answers, const AnswerForm& form) {
  const RequestRow& row = answers.front().row();
  const bool chat = row.form == RowForm::chat;
  Json choices = Json::array();
  for (const Answer* answer : chosen_of(answers)) {
    choices.push_back(choice_of(*answer, choices.size()));
  }
  const std::size_t prompt = row.prompt.size();
  const std::size_t completion = completion_tokens(answers);
  return {{"id", (chat ? "chatcmpl-" : "cmpl-") + digits_of(row.custom_id, row.line)},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"created", form.created},
          {"model", form.model},
          {"choices", std::move(choices)},
          {"usage",
           {{"prompt_tokens", prompt},
            {"completion_tokens", completion},
            {"total_tokens", prompt + completion}}}};
}

void add_plain(const Answer& answer, Json& record) {
  record["text"] = whole_text(answer);
  record["token_ids"] = answer.tokens();
  record["finish_reason"] = name_of(answer.finish());
}

void add_plain_scores(const Answer& answer, Json& record) {
  if (answer.row().wants_logprobs()) record["logprobs"] = text_logprobs(answer);
  if (answer.beam_score()) record["score"] = finite_logprob(*answer.beam_score());
}

Json plain_record(std::span<const Answer> answers) {
  const std::vector<const Answer*> chosen = chosen_of(answers);
  const RequestRow& row = answers.front().row();
  Json record;
  add_name(record, row);
  if (row.n == 1) {
    add_plain(*chosen.front(), record);
  } else {
    Json choices = Json::array();
    for (const Answer* answer : chosen) {
      Json choice = {{"index", choices.size()}};
      add_plain(*answer, choice);
      add_plain_scores(*answer, choice);
      choices.push_back(std::move(choice));
    }
    record["choices"] = std::move(choices);
  }
  record["usage"] = {{"prompt_tokens", row.prompt.size()},
                     {"completion_tokens", completion_tokens(answers)}};
  if (row.n == 1) add_plain_scores(*chosen.front(), record);
  return record;
}

/// The record as a line, with the row's own fields behind ours.
std::string line_of(const Json& record, const std::string& kept_fields) {
  std::string line = record.dump();
  if (!kept_fields.empty()) line.replace(line.size() - 1, 1, ",\"fields\":" + kept_fields + "}");
  return line;
}

Json::Object embedding_members(const Answer& answer) {
  Json values = Json::array();
  for (const float value : answer.embedding()) values.push_back(value);
  return {{"embedding", std::move(values)},
          {"usage", {{"prompt_tokens", answer.row().prompt.size()}}}};
}

/// Of a row that has no answer. `kind`: "score".
Json record_of(const RequestRow& row, Json::Object members, const std::string& kind,
               const AnswerForm& form) {
  Json record;
  if (row.form == RowForm::plain) {
    add_name(record, row);
    for (auto& [name, value] : members) record[name] = std::move(value);
    return record;
  }
  record["id"] = fmt::format("{}-{}", kind, digits_of(row.custom_id, row.line));
  record["object"] = kind;
  record["created"] = form.created;
  record["model"] = form.model;
  for (auto& [name, value] : members) record[name] = std::move(value);
  return batch_record(row, 200, std::move(record));
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

std::string answer_record(std::span<const Answer> answers, const AnswerForm& form) {
  const RequestRow& row = answers.front().row();
  if (!row.choices.empty()) {
    return line_of(record_of(row, score_members(answers), "score", form), row.kept_fields);
  }
  if (row.embed != stage::Embed::none) {
    return line_of(record_of(row, embedding_members(answers.front()), "embedding", form),
                   row.kept_fields);
  }
  if (row.form == RowForm::plain) return line_of(plain_record(answers), row.kept_fields);
  return line_of(batch_record(row, 200, completion_of(answers, form)), row.kept_fields);
}

std::string failure_record(const RowFailure& failure) {
  Json error = {{"message", failure.message},
                {"type", failure.ours ? "server_error" : "invalid_request_error"},
                {"param", text_or_null(failure.param)}};
  if (failure.form != RowForm::plain || failure.code == kDuplicateCustomId) {
    error["code"] = text_or_null(failure.code);
  }
  if (failure.form == RowForm::plain) {
    Json record;
    add_name(record, failure);
    record["line"] = failure.line;
    record["error"] = std::move(error);
    return line_of(record, failure.kept_fields);
  }
  return line_of(batch_record(failure, failure.ours ? 500 : 400, {{"error", std::move(error)}}),
                 failure.kept_fields);
}

}  // namespace sluice::launcher
