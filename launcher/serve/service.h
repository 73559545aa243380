// What the server answers to each request: routes, the key, errors in OpenAI's form.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/generate/job_source.h"
#include "launcher/serve/completion_exchange.h"
#include "launcher/serve/completion_request.h"
#include "launcher/serve/http_types.h"
#include "launcher/serve/serve_metrics.h"
#include "launcher/serve/served_model.h"
#include "launcher/serve/stored_routes.h"
#include "launcher/serve/whole_exchange.h"
#include "launcher/serve/work_queue.h"

namespace sluice::launcher {

struct ServiceOptions {
  std::string key;           // that every request but /health brings; empty: none is asked for
  std::string allow_origin;  // of pages that may ask; empty: none, "*": any
};

class Service final : public HttpHandler {
 public:
  /// References must outlive it.
  Service(ServiceOptions options, ServeMetrics& metrics, WorkQueue& workers)
      : options_(std::move(options)), metrics_(metrics), workers_(workers) {}

  /// Files and batches, which must outlive it. Before the first request; without, their routes
  /// say which flag is missing.
  void set_stored(StoredRoutes& stored) { stored_ = &stored; }
  /// Answers a line of a batch. Throws ApiError. Any thread, after open().
  void ask(const std::string& path, Json& body, const std::shared_ptr<HttpReply>& reply);

  /// The model is loaded. Until then all but /health, /version and /metrics answer 503. `served`
  /// must outlive every request.
  void open(ServedModel& served) { served_ = &served; }
  /// What /pipeline shows. Before open().
  void set_pipeline(const PlannedPipeline& pipeline) { pipeline_ = pipeline; }

  std::optional<HttpAnswer> check(const HttpHead& head) override;
  void handle(HttpHead head, std::string body, std::shared_ptr<HttpReply> reply) override;
  HttpAnswer refusal(int status, const std::string& sentence) override;
  std::vector<std::pair<std::string, std::string>> headers_for(const HttpHead& head) override;

 private:
  struct Route;
  static const Route* find_route(const std::string& path);

  std::optional<HttpAnswer> check_key(const HttpHead& head) const;
  std::optional<HttpAnswer> check_stored(const HttpHead& head) const;
  /// Does it on a worker's thread: what it throws becomes the answer.
  void defer(const std::shared_ptr<HttpReply>& reply, std::function<void()> task);
  bool is_preflight(const HttpHead& head) const;

  // Routes. GET:
  HttpAnswer health(const HttpHead& head);
  HttpAnswer version(const HttpHead& head);
  HttpAnswer metrics(const HttpHead& head);
  HttpAnswer models(const HttpHead& head);
  HttpAnswer tokenizer_info(const HttpHead& head);
  HttpAnswer pipeline(const HttpHead& head);
  HttpAnswer page(const HttpHead& head);
  // POST, on a worker's thread. They throw ApiError:
  void complete_text(Json& body, const std::shared_ptr<HttpReply>& reply);
  void complete_chat(Json& body, const std::shared_ptr<HttpReply>& reply);
  void embed(Json& body, const std::shared_ptr<HttpReply>& reply);
  void score(Json& body, const std::shared_ptr<HttpReply>& reply);
  void tokenize(Json& body, const std::shared_ptr<HttpReply>& reply);
  void detokenize(Json& body, const std::shared_ptr<HttpReply>& reply);

  void complete(CompletionKind kind, Json& body, const std::shared_ptr<HttpReply>& reply);
  /// Answers with what `form` makes of the rows.
  void answer_whole(std::vector<RequestRow> rows, WholeExchange::Form form,
                    const std::shared_ptr<HttpReply>& reply);
  void submit(const std::shared_ptr<Exchange>& exchange, std::vector<RequestRow> rows,
              const std::shared_ptr<HttpReply>& reply);
  /// The name of a model that this server has: the body's, or the first. Where it is an adapter's
  /// the body's rows get it. Throws ApiError.
  std::string take_model(Json& body) const;
  /// `prefix`: "cmpl".
  CompletionName new_name(const char* prefix, std::string model);

  const ServiceOptions options_;
  ServeMetrics& metrics_;
  WorkQueue& workers_;
  StoredRoutes* stored_ = nullptr;
  PlannedPipeline pipeline_;
  std::atomic<ServedModel*> served_{nullptr};
  std::atomic<std::size_t> open_{0};  // completions whose answers are not written yet
  std::atomic<std::uint64_t> next_id_{0};
};

}  // namespace sluice::launcher
