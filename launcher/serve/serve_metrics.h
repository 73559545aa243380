// What a server counts, in Prometheus' text format; names are vLLM's behind our prefix.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "launcher/jobs/answer.h"

namespace sluice::launcher {

/// Any thread.
class ServeMetrics {
 public:
  explicit ServeMetrics(const std::string& model);
  ~ServeMetrics();

  /// So long after its request came.
  void first_token(double seconds);
  void row_done(std::size_t prompt_tokens, std::span<const Answer> answers);
  void request_done(double seconds);
  /// Its client left before its answer was complete.
  void request_left();
  /// Refused: 429 or 503.
  void request_refused();

  /// `running`: requests that have a place, or whose answers are not written yet.
  std::string text(std::size_t running, std::size_t waiting, std::size_t batch);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::launcher
