#include "launcher/bench/serve_figures.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace sluice::launcher {

namespace {

double milliseconds(BenchClock::time_point from, BenchClock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

/// Of sorted values, at least one.
double percentile(const std::vector<double>& values, double share) {
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

Json latency_row(const char* name, const Latency& latency) {
  return {{"latency", name},
          {"mean_ms", latency.mean},
          {"median_ms", latency.median},
          {"p99_ms", latency.p99}};
}

}  // namespace

Latency latency_of(std::vector<double> milliseconds) {
  if (milliseconds.empty()) return {};
  std::ranges::sort(milliseconds);
  const double sum = std::accumulate(milliseconds.begin(), milliseconds.end(), 0.0);
  return {sum / static_cast<double>(milliseconds.size()), percentile(milliseconds, 0.5),
          percentile(milliseconds, 0.99)};
}

std::int32_t ServeFigures::failed() const {
  std::int32_t count = 0;
  for (const auto& [sentence, times] : failures) count += times;
  return count;
}

ServeFigures serve_figures(std::span<const AnswerTimes> answers) {
  ServeFigures figures;
  std::vector<double> first_token, output_token, gap, whole;
  auto begin = BenchClock::time_point::max();
  auto end = BenchClock::time_point::min();
  for (const AnswerTimes& answer : answers) {
    if (!answer.is_complete()) {
      ++figures.failures[answer.error];
      continue;
    }
    ++figures.complete;
    figures.prompt_tokens += answer.prompt_tokens;
    figures.output_tokens += answer.output_tokens;
    begin = std::min(begin, answer.begin);
    end = std::max(end, answer.events.back());
    first_token.push_back(milliseconds(answer.begin, answer.events.front()));
    whole.push_back(milliseconds(answer.begin, answer.events.back()));
    if (answer.output_tokens > 1) {
      output_token.push_back((whole.back() - first_token.back()) /
                             static_cast<double>(answer.output_tokens - 1));
    }
    for (std::size_t i = 1; i < answer.events.size(); ++i) {
      gap.push_back(milliseconds(answer.events[i - 1], answer.events[i]));
    }
  }
  if (figures.complete > 0) figures.seconds = milliseconds(begin, end) / 1000;
  figures.first_token = latency_of(std::move(first_token));
  figures.output_token = latency_of(std::move(output_token));
  figures.gap = latency_of(std::move(gap));
  figures.whole = latency_of(std::move(whole));
  return figures;
}

Json figures_json(const ServeFigures& figures) {
  Json failures = Json::object();
  for (const auto& [sentence, count] : figures.failures) failures[sentence] = count;
  const auto output = static_cast<double>(figures.output_tokens);
  return {{"completed", figures.complete},
          {"failed", figures.failed()},
          {"duration_s", figures.seconds},
          {"requests_per_second", figures.per_second(figures.complete)},
          {"output_tokens_per_second", figures.per_second(output)},
          {"total_tokens_per_second",
           figures.per_second(output + static_cast<double>(figures.prompt_tokens))},
          {"prompt_tokens", figures.prompt_tokens},
          {"output_tokens", figures.output_tokens},
          {"latencies",
           Json::array({latency_row("TTFT", figures.first_token),
                        latency_row("TPOT", figures.output_token), latency_row("ITL", figures.gap),
                        latency_row("E2E", figures.whole)})},
          {"failures", std::move(failures)}};
}

}  // namespace sluice::launcher
