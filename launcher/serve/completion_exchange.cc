#include "launcher/serve/completion_exchange.h"

#include <utility>

#include "launcher/serve/api_error.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

double seconds_between(CompletionExchange::Clock::time_point from,
                       CompletionExchange::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

double rate_of(std::size_t tokens, double milliseconds) {
  return milliseconds > 0 ? static_cast<double>(tokens) * 1000.0 / milliseconds : 0.0;
}

double each_of(std::size_t tokens, double milliseconds) {
  return tokens > 0 ? milliseconds / static_cast<double>(tokens) : 0.0;
}

}  // namespace

CompletionExchange::CompletionExchange(const CompletionRequest& request, CompletionKind kind,
                                       CompletionName name, std::shared_ptr<HttpReply> reply,
                                       ServeMetrics& metrics, Defer defer)
    : kind_(kind),
      name_(std::move(name)),
      stream_(request.stream),
      include_usage_(request.include_usage),
      return_token_ids_(request.return_token_ids),
      reply_(std::move(reply)),
      metrics_(metrics),
      defer_(std::move(defer)),
      left_(request.rows.size()) {
  std::size_t index = 0;
  for (const RequestRow& row : request.rows) {
    first_index_.push_back(index);
    index += static_cast<std::size_t>(row.n);
    prompt_tokens_ += row.prompt.size();
    if (!stream_) continue;
    choices_.emplace_back(static_cast<std::size_t>(row.n));
    unfinished_ += static_cast<std::size_t>(row.n);
  }
  done_.resize(left_);
}

void CompletionExchange::on_begin() { began_ = Clock::now(); }

void CompletionExchange::on_token(const RowWork& work, std::size_t place, std::size_t part) {
  if (!first_token_) {
    first_token_ = Clock::now();
    if (!reply_->is_of_batch()) metrics_.first_token(seconds_between(came_, *first_token_));
  }
  if (!stream_) return;
  const Answer& answer = work.answers[part];
  Choice& choice = choices_[place][part];
  const bool chat = kind_ == CompletionKind::chat;
  const bool has_prompt = !choice.begun && answer.row().echo;
  const bool begins = chat && !choice.begun;
  if (answer.text().size() == choice.bytes && answer.finish() == Finish::none && !has_prompt &&
      !begins) {
    return;
  }
  Json event = head_of(name_, chat ? "chat.completion.chunk" : "text_completion");
  event["choices"] = Json::array({choice_event(answer, choice, first_index_[place] + part)});
  if (answer.finish() != Finish::none) {
    completion_tokens_ += answer.tokens().size();
    if (--unfinished_ == 0) event["timings"] = timings();
  }
  send_event(event);
}

Json CompletionExchange::choice_event(const Answer& answer, Choice& choice, std::size_t index) {
  const bool finished = answer.finish() != Finish::none;
  const bool begins = !std::exchange(choice.begun, true);
  std::string text = begins && answer.row().echo ? answer.row().prompt_text : std::string();
  text += answer.text().substr(choice.bytes);
  choice.bytes = answer.text().size();
  choice.characters += count_characters(text);
  Json logprobs;
  if (answer.row().wants_logprobs()) {
    if (!choice.logprobs) choice.logprobs.emplace(answer);
    logprobs = kind_ == CompletionKind::chat
                   ? choice.logprobs->take_chat()
                   : choice.logprobs->take_text(choice.characters, finished);
  }
  const Json why = finished ? Json(name_of(answer.finish())) : Json();
  Json event = {{"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", why}};
  if (return_token_ids_) {
    event["token_ids"] = Json::array();
    for (; choice.tokens < answer.tokens().size(); ++choice.tokens) {
      event["token_ids"].push_back(answer.tokens()[choice.tokens]);
    }
  }
  if (kind_ == CompletionKind::text) {
    event["text"] = std::move(text);
    return event;
  }
  Json delta = Json::object();
  if (begins) delta["role"] = "assistant";
  if (begins || !text.empty()) delta["content"] = std::move(text);
  event["delta"] = std::move(delta);
  return event;
}

void CompletionExchange::on_row_done(std::size_t place, std::unique_ptr<RowWork> work) {
  if (!stream_) completion_tokens_ += completion_tokens(work->answers);
  metrics_.row_done(work->row.prompt.size(), work->answers);
  done_[place] = std::move(work);
  if (--left_ > 0) return;
  if (!reply_->is_of_batch()) metrics_.request_done(seconds_between(came_, Clock::now()));
  if (stream_) return end_stream();
  // The exchange lives until its answer is made: the work holds the rows.
  defer_(
      [rows = std::make_shared<std::vector<std::unique_ptr<RowWork>>>(std::move(done_)),
       first = first_index_, kind = kind_, return_token_ids = return_token_ids_,
       head = head_of(name_, kind_ == CompletionKind::chat ? "chat.completion" : "text_completion"),
       usage = usage(), timings = timings(), reply = reply_] {
        Json answer = head;
        Json choices = Json::array();
        for (const std::unique_ptr<RowWork>& row : *rows) {
          for (const Answer* one : chosen_of(row->answers)) {
            choices.push_back(choice_of(*one, choices.size()));
            if (return_token_ids) choices.back()["token_ids"] = one->tokens();
          }
        }
        answer["choices"] = std::move(choices);
        answer["usage"] = usage;
        answer["timings"] = timings;
        reply->send({200, answer.dump()});
      });
}

void CompletionExchange::end_stream() {
  const bool chat = kind_ == CompletionKind::chat;
  Json event = head_of(name_, chat ? "chat.completion.chunk" : "text_completion");
  event["choices"] = Json::array();
  if (include_usage_) {
    event["usage"] = usage();
    send_event(event);
  }
  reply_->event("[DONE]");
  reply_->end_stream();
}

void CompletionExchange::on_failed(const std::string& why) {
  const ApiError error{500, why};
  if (!streaming_) return reply_->send(error_answer(error));
  reply_->event(error_body(error).dump());
  reply_->end_stream();
}

void CompletionExchange::send_event(const Json& event) {
  if (!std::exchange(streaming_, true)) reply_->begin_stream();
  reply_->event(event.dump());
}

Json CompletionExchange::usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", completion_tokens_},
          {"total_tokens", prompt_tokens_ + completion_tokens_}};
}

Json CompletionExchange::timings() const {
  const Clock::time_point first = first_token_.value_or(Clock::now());
  const double prompt = seconds_between(began_, first) * 1000.0;
  const double predicted = seconds_between(first, Clock::now()) * 1000.0;
  return {{"prompt_n", prompt_tokens_},
          {"prompt_ms", prompt},
          {"prompt_per_token_ms", each_of(prompt_tokens_, prompt)},
          {"prompt_per_second", rate_of(prompt_tokens_, prompt)},
          {"predicted_n", completion_tokens_},
          {"predicted_ms", predicted},
          {"predicted_per_token_ms", each_of(completion_tokens_, predicted)},
          {"predicted_per_second", rate_of(completion_tokens_, predicted)}};
}

}  // namespace sluice::launcher
