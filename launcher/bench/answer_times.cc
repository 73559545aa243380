#include "launcher/bench/answer_times.h"

#include <utility>

#include "launcher/json/json.h"

namespace sluice::launcher {

namespace {

constexpr std::size_t kMostShown = 300;  // bytes of an answer that is no JSON

/// Of a text's choice or a chat's.
bool brings_text(const Json& choice) {
  const Json& text = choice.member("text");
  if (text.is_string()) return !text.text().empty();
  for (const char* name : {"content", "reasoning_content"}) {
    const Json& content = choice.member("delta").member(name);
    if (content.is_string() && !content.text().empty()) return true;
  }
  return false;
}

}  // namespace

void AnswerReader::take(std::string_view bytes, BenchClock::time_point now) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
    const std::string line = std::exchange(line_, {});
    if (line.starts_with("data:")) take_event(std::string_view(line).substr(5), now);
  }
}

void AnswerReader::take_event(std::string_view data, BenchClock::time_point now) {
  while (data.starts_with(' ')) data.remove_prefix(1);
  while (data.ends_with('\r')) data.remove_suffix(1);
  if (data == "[DONE]") {
    done_ = true;
    return;
  }
  const Json event = Json::parse_or_null(data);
  if (!event.member("error").is_null()) {
    times_.error = error_text(data);
    return;
  }
  bool has_text = false;
  for (const Json& choice : event.member("choices")) has_text |= brings_text(choice);
  if (has_text) times_.events.push_back(now);
  const Json& usage = event.member("usage");
  if (usage.member("completion_tokens").is_integer()) {
    times_.output_tokens = usage.member("completion_tokens").integer();
  }
  if (usage.member("prompt_tokens").is_integer()) {
    times_.prompt_tokens = usage.member("prompt_tokens").integer();
  }
}

AnswerTimes AnswerReader::end(const std::string& problem) {
  if (!problem.empty()) {
    times_.error = problem;
  } else if (times_.error.empty() && !done_) {
    times_.error = "the stream broke off";
  } else if (times_.error.empty() && times_.events.empty()) {
    times_.error = "the answer has no text";
  }
  if (times_.output_tokens == 0) {
    times_.output_tokens = static_cast<std::int64_t>(times_.events.size());
  }
  return std::move(times_);
}

std::string error_text(std::string_view body) {
  const Json parsed = Json::parse_or_null(body);
  const Json& error = parsed.member("error");
  if (error.is_string()) return error.text();
  const Json& message = error.member("message");
  if (message.is_string()) return message.text();
  return std::string(body.substr(0, kMostShown));
}

}  // namespace sluice::launcher
