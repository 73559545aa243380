#include "launcher/jobs/answer_form.h"

#include <fmt/format.h>

#include <string_view>

#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/score_form.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

std::string token_name(const Tokenizer& tokenizer, std::int32_t token) {
  const std::string& bytes = tokenizer.token_bytes(token);
  if (bytes.empty()) return fmt::format("token_id:{}", token);
  if (is_valid_utf8(bytes)) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

/// The n likeliest and the token itself, by name; of equal names the likelier stays.
Json top_of(const Tokenizer& tokenizer, const ScoredToken& result) {
  Json top = Json::object();
  for (const stage::Candidate& candidate : result.top) {
    const std::string name = token_name(tokenizer, candidate.token);
    if (!top.contains(name)) top[name] = finite_logprob(candidate.logprob);
  }
  top[token_name(tokenizer, result.token)] = finite_logprob(result.logprob);
  return top;
}

/// Offsets of tokens in a text that is given out bit by bit: where the characters that a token adds
/// to begin.
class Offsets {
 public:
  explicit Offsets(std::size_t begin) : at_(begin) {}

  std::size_t next(std::string_view bytes) {
    const std::size_t offset = at_;
    held_.append(bytes);
    at_ += count_characters(take_whole(held_));
    return offset;
  }

 private:
  std::size_t at_;
  std::string held_;
};

class LogprobTable {
 public:
  LogprobTable(const Tokenizer& tokenizer, std::size_t characters)
      : tokenizer_(tokenizer), characters_(characters) {}

  void add_first(std::int32_t token, std::size_t offset) {
    add_token(token, offset);
    token_logprobs_.push_back(nullptr);
    top_logprobs_.push_back(nullptr);
  }
  void add(const ScoredToken& result, std::size_t offset) {
    add_token(result.token, offset);
    token_logprobs_.push_back(finite_logprob(result.logprob));
    top_logprobs_.push_back(top_of(tokenizer_, result));
  }
  Json take() {
    return {{"tokens", std::move(tokens_)},
            {"token_logprobs", std::move(token_logprobs_)},
            {"top_logprobs", std::move(top_logprobs_)},
            {"text_offset", std::move(offsets_)}};
  }

 private:
  void add_token(std::int32_t token, std::size_t offset) {
    tokens_.push_back(token_name(tokenizer_, token));
    offsets_.push_back(std::min(offset, characters_));
  }

  const Tokenizer& tokenizer_;
  std::size_t characters_;  // of the whole text, which a stop string may have cut
  Json tokens_ = Json::array();
  Json token_logprobs_ = Json::array();
  Json top_logprobs_ = Json::array();
  Json offsets_ = Json::array();
};

std::string whole_text(const Answer& answer) {
  return answer.row().echo ? answer.row().prompt_text + answer.text() : answer.text();
}

/// OpenAI's form of one token in a chat completion.
Json chat_token(const Tokenizer& tokenizer, std::int32_t token, float logprob) {
  Json bytes = Json::array();
  for (const char byte : tokenizer.token_bytes(token)) {
    bytes.push_back(static_cast<std::int64_t>(static_cast<unsigned char>(byte)));
  }
  return {{"token", token_name(tokenizer, token)},
          {"logprob", finite_logprob(logprob)},
          {"bytes", std::move(bytes)}};
}

Json chat_logprobs_of(const Answer& answer) {
  if (!answer.row().wants_logprobs()) return nullptr;
  Json content = Json::array();
  for (const ScoredToken& result : answer.results()) {
    Json top = Json::array();
    for (const stage::Candidate& one : result.top) {
      top.push_back(chat_token(answer.tokenizer(), one.token, one.logprob));
    }
    Json entry = chat_token(answer.tokenizer(), result.token, result.logprob);
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json logprobs_of(const Answer& answer) {
  const RequestRow& row = answer.row();
  const Tokenizer& tokenizer = answer.tokenizer();
  if (!row.wants_logprobs()) return nullptr;
  LogprobTable table(tokenizer, count_characters(whole_text(answer)));
  std::size_t begin = 0;
  if (row.echo) {
    const bool bos = row.prompt.front() == tokenizer.bos();  // not shown in the text
    Offsets offsets(0);
    table.add_first(row.prompt.front(),
                    offsets.next(bos ? "" : tokenizer.token_bytes(row.prompt.front())));
    for (const ScoredToken& result : answer.prompt_results()) {
      table.add(result, offsets.next(tokenizer.token_bytes(result.token)));
    }
    begin = count_characters(row.prompt_text);
  }
  Offsets offsets(begin);
  for (const ScoredToken& result : answer.results()) {
    const bool shown = !row.skip_special || !tokenizer.is_special(result.token);
    table.add(result, offsets.next(shown ? tokenizer.token_bytes(result.token) : ""));
  }
  return table.take();
}

const char* name_of(Finish finish) { return finish == Finish::length ? "length" : "stop"; }

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

using Answers = std::vector<const Answer*>;

/// Those that a row with several gives back: the likeliest; equals by their number.
Answers chosen_of(std::span<const Answer> answers) {
  Answers chosen;
  for (const Answer& one : answers) chosen.push_back(&one);
  const auto n = static_cast<std::size_t>(answers.front().row().n);
  if (chosen.size() <= n) return chosen;
  std::ranges::stable_sort(
      chosen, [](const Answer* a, const Answer* b) { return a->logprob_sum() > b->logprob_sum(); });
  chosen.resize(n);
  return chosen;
}

std::size_t completion_tokens(std::span<const Answer> answers) {
  std::size_t tokens = 0;
  for (const Answer& answer : answers) tokens += answer.tokens().size();
  return tokens;
}

Json chat_choice(const Answer& answer, std::size_t index) {
  return {{"index", index},
          {"message", {{"role", "assistant"}, {"content", answer.text()}, {"refusal", nullptr}}},
          {"logprobs", chat_logprobs_of(answer)},
          {"finish_reason", name_of(answer.finish())}};
}

Json text_choice(const Answer& answer, std::size_t index) {
  return {{"text", whole_text(answer)},
          {"index", index},
          {"logprobs", logprobs_of(answer)},
          {"finish_reason", name_of(answer.finish())}};
}

/// OpenAI's completion of a text or a chat.
Json completion_of(std::span<const Answer> answers, const AnswerForm& form) {
  const RequestRow& row = answers.front().row();
  const bool chat = row.form == RowForm::chat;
  Json choices = Json::array();
  for (const Answer* answer : chosen_of(answers)) {
    const std::size_t index = choices.size();
    choices.push_back(chat ? chat_choice(*answer, index) : text_choice(*answer, index));
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
  if (answer.row().wants_logprobs()) record["logprobs"] = logprobs_of(answer);
  if (answer.beam_score()) record["score"] = finite_logprob(*answer.beam_score());
}

Json plain_record(std::span<const Answer> answers) {
  const Answers chosen = chosen_of(answers);
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

/// Of a row with choices.
Json score_record(std::span<const Answer> answers, const AnswerForm& form) {
  const RequestRow& row = answers.front().row();
  Json::Object members = score_members(answers);
  Json record;
  if (row.form == RowForm::plain) {
    add_name(record, row);
    for (auto& [name, value] : members) record[name] = std::move(value);
    return record;
  }
  record["id"] = "score-" + digits_of(row.custom_id, row.line);
  record["object"] = "score";
  record["created"] = form.created;
  record["model"] = form.model;
  for (auto& [name, value] : members) record[name] = std::move(value);
  return batch_record(row, 200, std::move(record));
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

std::string answer_record(std::span<const Answer> answers, const AnswerForm& form) {
  const RequestRow& row = answers.front().row();
  if (!row.choices.empty()) return line_of(score_record(answers, form), row.kept_fields);
  if (row.form == RowForm::plain) return line_of(plain_record(answers), row.kept_fields);
  return line_of(batch_record(row, 200, completion_of(answers, form)), row.kept_fields);
}

std::string failure_record(const RowFailure& failure) {
  Json error = {{"message", failure.message},
                {"type", failure.ours ? "server_error" : "invalid_request_error"},
                {"param", text_or_null(failure.param)}};
  if (failure.form != RowForm::plain || !failure.code.empty()) {
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
