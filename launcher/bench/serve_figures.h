// What clients have seen of a server, in figures, as vLLM's serving benchmark counts them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "launcher/bench/answer_times.h"
#include "launcher/json/json.h"

namespace sluice::launcher {

/// In milliseconds; zeros where nothing was seen.
struct Latency {
  double mean = 0;
  double median = 0;
  double p99 = 0;
};

/// Percentiles between two values lie on the line between them, as numpy's do.
Latency latency_of(std::vector<double> milliseconds);

struct ServeFigures {
  std::int32_t complete = 0;
  std::map<std::string, std::int32_t> failures;  // how often each was said
  double seconds = 0;                            // from the first request to the last answer's end
  std::int64_t prompt_tokens = 0;                // of complete answers, likewise:
  std::int64_t output_tokens = 0;
  Latency first_token;   // TTFT: from sending to the first text
  Latency output_token;  // TPOT: per token behind the first, of each answer of more than one
  Latency gap;           // ITL: between two events of an answer
  Latency whole;         // E2E: from sending to the last text

  std::int32_t failed() const;
  double per_second(double count) const { return seconds > 0 ? count / seconds : 0; }
};

ServeFigures serve_figures(std::span<const AnswerTimes> answers);

/// {"completed", "failed", "duration_s", "requests_per_second", "output_tokens_per_second",
/// "total_tokens_per_second", "prompt_tokens", "output_tokens", "latencies": [{"latency": "TTFT",
/// "mean_ms", "median_ms", "p99_ms"}, ...], "failures": {sentence: count}}.
Json figures_json(const ServeFigures& figures);

}  // namespace sluice::launcher
