// A request that is answered at once when all its rows have ended.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/json/json.h"
#include "launcher/serve/http_types.h"
#include "launcher/serve/serve_job.h"
#include "launcher/serve/serve_metrics.h"

namespace sluice::launcher {

class WholeExchange final : public Exchange {
 public:
  using Rows = std::vector<std::unique_ptr<RowWork>>;
  /// Makes the answer of the rows, in the request's order, on another thread.
  using Form = std::function<Json(const Rows& rows)>;
  /// Does a work on another thread.
  using Defer = std::function<void(std::function<void()>)>;

  /// `metrics` must outlive it.
  WholeExchange(std::size_t rows, Form form, std::shared_ptr<HttpReply> reply,
                ServeMetrics& metrics, Defer defer);

  void on_begin() override {}
  void on_token(const RowWork&, std::size_t, std::size_t) override {}
  void on_row_done(std::size_t place, std::unique_ptr<RowWork> work) override;
  void on_failed(const std::string& why) override;

 private:
  using Clock = std::chrono::steady_clock;

  const Form form_;
  const std::shared_ptr<HttpReply> reply_;
  ServeMetrics& metrics_;
  const Defer defer_;
  Rows done_;
  std::size_t left_;  // rows that are not done
  const Clock::time_point came_ = Clock::now();
};

}  // namespace sluice::launcher
