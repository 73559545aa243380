#include "launcher/serve/serve_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "launcher/jobs/choice_form.h"

namespace sluice::launcher {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

// vLLM's, in seconds.
const prometheus::Histogram::BucketBoundaries kFirstToken = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
    0.75,  1,     2.5,  5,    7.5,  10,   20,   40,  80};
const prometheus::Histogram::BucketBoundaries kRequest = {
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920};

}  // namespace

class ServeMetrics::Impl {
 public:
  explicit Impl(const std::string& model) : labels_{{"model_name", model}} {}

  prometheus::Gauge& gauge(const char* name, const char* help) {
    return BuildGauge().Name(name).Help(help).Register(registry_).Add(labels_);
  }
  prometheus::Counter& counter(const char* name, const char* help) {
    return BuildCounter().Name(name).Help(help).Register(registry_).Add(labels_);
  }
  prometheus::Histogram& histogram(const char* name, const char* help,
                                   const prometheus::Histogram::BucketBoundaries& bounds) {
    return BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels_, bounds);
  }
  prometheus::Counter& success(Finish finish) {
    prometheus::Labels labels = labels_;
    labels["finished_reason"] = name_of(finish);
    return success_.Add(labels);
  }

  const prometheus::Labels labels_;
  prometheus::Registry registry_;
  prometheus::Gauge& running_ =
      gauge("sluice_num_requests_running", "Requests that are answered now");
  prometheus::Gauge& waiting_ =
      gauge("sluice_num_requests_waiting", "Requests that wait for a place");
  prometheus::Gauge& batch_ =
      gauge("sluice_num_batch_requests", "Lines of batches that are answered or wait for a place");
  prometheus::Counter& prompt_ =
      counter("sluice_prompt_tokens_total", "Tokens of the prompts of finished answers");
  prometheus::Counter& generation_ =
      counter("sluice_generation_tokens_total", "Tokens of finished answers");
  prometheus::Family<prometheus::Counter>& success_ =
      BuildCounter()
          .Name("sluice_request_success_total")
          .Help("Finished answers, by the reason of their end")
          .Register(registry_);
  prometheus::Counter& stop_ = success(Finish::stop);
  prometheus::Counter& length_ = success(Finish::length);
  prometheus::Counter& left_ =
      counter("sluice_request_left_total", "Requests whose clients left before their ends");
  prometheus::Counter& refused_ =
      counter("sluice_request_refused_total", "Requests that found the server full or ending");
  prometheus::Histogram& first_token_ = histogram("sluice_time_to_first_token_seconds",
                                                  "From a request to its first token", kFirstToken);
  prometheus::Histogram& request_ =
      histogram("sluice_e2e_request_latency_seconds", "From a request to its last token", kRequest);
};

ServeMetrics::ServeMetrics(const std::string& model) : impl_(std::make_unique<Impl>(model)) {}
ServeMetrics::~ServeMetrics() = default;

void ServeMetrics::first_token(double seconds) { impl_->first_token_.Observe(seconds); }

void ServeMetrics::row_done(std::size_t prompt_tokens, std::span<const Answer> answers) {
  impl_->prompt_.Increment(static_cast<double>(prompt_tokens));
  impl_->generation_.Increment(static_cast<double>(completion_tokens(answers)));
  for (const Answer& answer : answers) {
    (answer.finish() == Finish::stop ? impl_->stop_ : impl_->length_).Increment();
  }
}

void ServeMetrics::request_done(double seconds) { impl_->request_.Observe(seconds); }
void ServeMetrics::request_left() { impl_->left_.Increment(); }
void ServeMetrics::request_refused() { impl_->refused_.Increment(); }

std::string ServeMetrics::text(std::size_t running, std::size_t waiting, std::size_t batch) {
  impl_->running_.Set(static_cast<double>(running));
  impl_->waiting_.Set(static_cast<double>(waiting));
  impl_->batch_.Set(static_cast<double>(batch));
  return prometheus::TextSerializer().Serialize(impl_->registry_.Collect());
}

}  // namespace sluice::launcher
