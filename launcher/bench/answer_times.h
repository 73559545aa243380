// What a client sees of an answer that is streamed in OpenAI's form.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

using BenchClock = std::chrono::steady_clock;

struct AnswerTimes {
  BenchClock::time_point begin;                // the request was sent
  std::vector<BenchClock::time_point> events;  // of events that brought text, in their order
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;  // as the server counts; else the events that brought text
  std::string error;               // empty: the answer is complete

  bool is_complete() const { return error.empty() && !events.empty(); }
};

/// Takes the bytes of a stream of events, however they are cut.
class AnswerReader {
 public:
  explicit AnswerReader(BenchClock::time_point begin) { times_.begin = begin; }

  /// `bytes` have come at `now`.
  void take(std::string_view bytes, BenchClock::time_point now);
  /// The stream has ended. `problem`: why, where it was not its proper end.
  AnswerTimes end(const std::string& problem = {});

 private:
  void take_event(std::string_view data, BenchClock::time_point now);

  AnswerTimes times_;
  std::string line_;  // that is not complete yet
  bool done_ = false;
};

/// What a body of OpenAI's errors says; of anything else its beginning.
std::string error_text(std::string_view body);

}  // namespace sluice::launcher
