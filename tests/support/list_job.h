// A job over a list of requests, kept in memory: what the stage's tests feed the head with.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "stage/request.h"

namespace sluice::support {

class ListJob : public stage::Job {
 public:
  struct Result {
    std::int32_t token = -1;
    float logprob = 0.0F;
    std::vector<stage::Candidate> top;
  };
  struct Answer {
    std::vector<std::int32_t> tokens;
    std::vector<Result> results;
    std::vector<Result> prompt_results;
    std::vector<float> embedding;
    bool prompt_done = false;
    bool cancelled = false;
    std::string failure;
  };

  explicit ListJob(std::vector<stage::Request> requests, std::int32_t eos = -1)
      : requests_(std::move(requests)), eos_(eos) {
    for (std::size_t i = 0; i < requests_.size(); ++i) requests_[i].id = i;
  }

  stage::Next next(stage::Request& request) override {
    if (next_ == requests_.size()) return stage::Next::no_more;
    request = requests_[next_++];
    return stage::Next::request;
  }
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override {
    const auto scored = static_cast<std::int32_t>(answers[id].prompt_results.size());
    if (index != requests_[id].scores_from + scored) {
      answers[id].failure = "prompt tokens out of order";
    }
    answers[id].prompt_results.push_back(copy(result));
  }
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override {
    Answer& answer = answers[id];
    answer.tokens.push_back(result.token);
    answer.results.push_back(copy(result));
    return result.token == eos_ ||
           static_cast<std::int32_t>(answer.tokens.size()) >= requests_[id].max_tokens;
  }
  void on_embedding(std::uint64_t id, std::span<const float> values) override {
    if (answers[id].prompt_done) answers[id].failure = "an embedding after the prompt's end";
    answers[id].embedding.assign(values.begin(), values.end());
  }
  void on_prompt_done(std::uint64_t id) override { answers[id].prompt_done = true; }
  void on_failed(std::uint64_t id, const std::string& reason) override {
    answers[id].failure = reason;
  }
  void on_cancelled(std::uint64_t id) override { answers[id].cancelled = true; }

  std::map<std::uint64_t, Answer> answers;

 private:
  static Result copy(const stage::TokenResult& result) {
    return {result.token, result.logprob, {result.top.begin(), result.top.end()}};
  }

  std::vector<stage::Request> requests_;
  std::int32_t eos_;
  std::size_t next_ = 0;
};

}  // namespace sluice::support
