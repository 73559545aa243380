// A request for completions on its way: its rows' tokens become events, or one answer.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "launcher/jobs/choice_form.h"
#include "launcher/serve/completion_name.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/http_types.h"
#include "launcher/serve/serve_job.h"
#include "launcher/serve/serve_metrics.h"

namespace sluice::launcher {

class CompletionExchange final : public Exchange {
 public:
  using Clock = std::chrono::steady_clock;
  /// Does a work on another thread.
  using Defer = std::function<void(std::function<void()>)>;

  /// `rows`: the request's, before they are submitted. `metrics` must outlive it.
  CompletionExchange(const CompletionRequest& request, CompletionKind kind, CompletionName name,
                     std::shared_ptr<HttpReply> reply, ServeMetrics& metrics, Defer defer);

  void on_begin() override;
  void on_token(const RowWork& work, std::size_t place, std::size_t part) override;
  void on_row_done(std::size_t place, std::unique_ptr<RowWork> work) override;
  void on_failed(const std::string& why) override;

 private:
  /// An answer that is given out bit by bit.
  struct Choice {
    std::size_t bytes = 0;       // of the answer's text, given out
    std::size_t characters = 0;  // of the whole text
    std::size_t tokens = 0;      // of the answer, given out as ids
    bool begun = false;
    std::optional<LogprobParts> logprobs = {};
  };

  Json choice_event(const Answer& answer, Choice& choice, std::size_t index);
  void send_event(const Json& event);
  void end_stream();
  void send_whole();
  Json usage() const;
  /// llama.cpp's.
  Json timings() const;

  const CompletionKind kind_;
  const CompletionName name_;
  const bool stream_;
  const bool include_usage_;
  const bool return_token_ids_;
  std::shared_ptr<HttpReply> reply_;
  ServeMetrics& metrics_;
  const Defer defer_;

  std::vector<std::size_t> first_index_;      // of each row's choices
  std::vector<std::vector<Choice>> choices_;  // of each row's answers, of a stream
  std::vector<std::unique_ptr<RowWork>> done_;
  std::size_t left_;            // rows that are not done
  std::size_t unfinished_ = 0;  // answers, of a stream
  std::size_t prompt_tokens_ = 0;
  std::size_t completion_tokens_ = 0;
  bool streaming_ = false;  // the stream has begun
  const Clock::time_point came_ = Clock::now();
  Clock::time_point began_ = came_;
  std::optional<Clock::time_point> first_token_;
};

}  // namespace sluice::launcher
