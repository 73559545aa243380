#include "launcher/serve/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iostream>

#include "launcher/config/version.h"
#include "launcher/serve/api_error.h"
#include "launcher/serve/embedding_request.h"
#include "launcher/serve/http_text.h"
#include "launcher/serve/page.h"
#include "launcher/serve/pooled_answer.h"
#include "launcher/serve/score_request.h"
#include "launcher/serve/tokenizer_routes.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kModels = "/v1/models";

/// `parent`: of an adapter the model's name; empty: none.
Json model_json(const std::string& name, const std::string& parent, const ServedModel& served) {
  return {{"id", name},
          {"object", "model"},
          {"created", served.created},
          {"owned_by", "sluice"},
          {"parent", parent.empty() ? Json() : Json(parent)},
          {"max_model_len", served.limits.positions}};
}

/// The model by all its names, then its adapters.
std::vector<Json> models_of(const ServedModel& served) {
  std::vector<Json> models;
  for (const std::string& name : served.names) models.push_back(model_json(name, "", served));
  for (const KnownAdapter& adapter : served.limits.adapters) {
    models.push_back(model_json(adapter.name, served.names.front(), served));
  }
  return models;
}

ApiError no_such_model(const std::string& name) {
  return {404, fmt::format("the model '{}' is not served here; GET /v1/models lists what is", name),
          "model", "model_not_found"};
}

}  // namespace

/// One of both functions.
struct Service::Route {
  std::string_view path;
  HttpAnswer (Service::*get)(const HttpHead&) = nullptr;
  void (Service::*post)(Json&, const std::shared_ptr<HttpReply>&) = nullptr;
  bool while_loading = false;
};

const Service::Route* Service::find_route(const std::string& path) {
  static constexpr Route kRoutes[] = {
      {"/health", &Service::health, nullptr, true},
      {"/version", &Service::version, nullptr, true},
      {"/metrics", &Service::metrics, nullptr, true},
      {"/", &Service::page, nullptr, true},
      {"/pipeline", &Service::pipeline},
      {kModels, &Service::models},
      {"/tokenizer_info", &Service::tokenizer_info},
      {"/v1/completions", nullptr, &Service::complete_text},
      {"/v1/chat/completions", nullptr, &Service::complete_chat},
      {"/v1/embeddings", nullptr, &Service::embed},
      {"/v1/score", nullptr, &Service::score},
      {"/tokenize", nullptr, &Service::tokenize},
      {"/detokenize", nullptr, &Service::detokenize},
  };
  const auto found = std::ranges::find_if(kRoutes, [&path](const Route& route) {
    return path == route.path || (route.path == kModels && path.starts_with("/v1/models/"));
  });
  return found == std::end(kRoutes) ? nullptr : &*found;
}

std::optional<HttpAnswer> Service::check_key(const HttpHead& head) const {
  if (options_.key.empty() || head.path == "/health" || is_preflight(head)) return {};
  if (equal_in_constant_time(key_of(head.authorization), options_.key)) return {};
  HttpAnswer answer = error_answer(
      {401, "the server's key is missing or wrong: send it as Authorization: Bearer KEY", "",
       "invalid_api_key"});
  // A browser asks its user for a password, which is the key.
  const bool is_page = head.path == "/";
  answer.headers.emplace_back("WWW-Authenticate", is_page ? "Basic realm=\"sluice\"" : "Bearer");
  return answer;
}

bool Service::is_preflight(const HttpHead& head) const {
  return head.method == "OPTIONS" && !options_.allow_origin.empty();
}

std::optional<HttpAnswer> Service::check_stored(const HttpHead& head) const {
  if (stored_ == nullptr) {
    return error_answer({404,
                         "files and batches are kept in a folder, and this server has none; "
                         "start it with --files-dir DIR"});
  }
  if (auto refused = StoredRoutes::check(head, options_.allow_origin)) return refused;
  if (served_ == nullptr) return error_answer({503, "the model is being loaded; try again"});
  return {};
}

std::optional<HttpAnswer> Service::check(const HttpHead& head) {
  if (auto refused = check_key(head)) return refused;
  if (StoredRoutes::has(head.path) && !is_preflight(head)) return check_stored(head);
  const Route* const route = find_route(head.path);
  if (route == nullptr && !StoredRoutes::has(head.path)) {
    return error_answer({404, fmt::format("there is nothing at {}; docs/server.md lists what is",
                                          Json(head.path).dump(-1, true))});
  }
  if (is_preflight(head)) return {};
  const bool reads = head.method == "GET" || head.method == "HEAD";
  if (route->post == nullptr ? !reads : head.method != "POST") {
    const char* const allowed = route->post == nullptr ? "GET, HEAD" : "POST";
    HttpAnswer answer = error_answer({405, fmt::format("{} takes {}", route->path, allowed)});
    answer.headers.emplace_back("Allow", allowed);
    return answer;
  }
  if (route->post != nullptr && !is_json_type(head.content_type)) {
    return error_answer({415, "the Content-Type must be application/json"});
  }
  if (served_ == nullptr && !route->while_loading) {
    return error_answer({503, "the model is being loaded; try again"});
  }
  return {};
}

void Service::handle(HttpHead head, std::string body, std::shared_ptr<HttpReply> reply) {
  if (is_preflight(head)) {
    return reply->send({204,
                        "",
                        "text/plain",
                        {{"Access-Control-Allow-Methods", "GET, POST, DELETE"},
                         {"Access-Control-Allow-Headers", "Authorization, Content-Type"},
                         {"Access-Control-Max-Age", "600"}}});
  }
  if (StoredRoutes::has(head.path)) {
    return defer(reply, [this, head = std::move(head), body = std::move(body), reply] {
      reply->send(stored_->answer(head, body));
    });
  }
  const Route* const route = find_route(head.path);
  if (route->post == nullptr) return reply->send((this->*route->get)(head));
  defer(reply, [this, route, body = std::move(body), reply] {
    Json parsed = parse_body(body);
    (this->*route->post)(parsed, reply);
  });
}

void Service::defer(const std::shared_ptr<HttpReply>& reply, std::function<void()> task) {
  workers_.push([this, reply, task = std::move(task)] {
    try {
      task();
    } catch (const ApiError& error) {
      if (error.status == 429 || error.status == 503) metrics_.request_refused();
      reply->send(error_answer(error));
    } catch (const std::exception& problem) {
      reply->send(error_answer({500, problem.what()}));
    }
  });
}

void Service::ask(const std::string& path, Json& body, const std::shared_ptr<HttpReply>& reply) {
  const Route* const route = find_route(path);
  if (route == nullptr || route->post == nullptr) throw ApiError{404, "there is no such endpoint"};
  (this->*route->post)(body, reply);
}

HttpAnswer Service::refusal(int status, const std::string& sentence) {
  return error_answer({status, sentence});
}

std::vector<std::pair<std::string, std::string>> Service::headers_for(const HttpHead& head) {
  const std::string& allowed = options_.allow_origin;
  if (allowed.empty() || (allowed != "*" && head.origin != allowed)) return {};
  return {{"Access-Control-Allow-Origin", allowed}, {"Vary", "Origin"}};
}

HttpAnswer Service::health(const HttpHead&) {
  if (served_ == nullptr) return error_answer({503, "the model is being loaded"});
  return {200, R"({"status":"ok"})"};
}

HttpAnswer Service::version(const HttpHead&) { return {200, Json({{"version", kVersion}}).dump()}; }

HttpAnswer Service::metrics(const HttpHead&) {
  ServedModel* const served = served_;
  const ServeJob::Load load = served == nullptr ? ServeJob::Load() : served->job.load();
  const std::size_t open = open_;
  return {200, metrics_.text(open - std::min(open, load.waiting), load.waiting, load.batch),
          "text/plain; version=0.0.4; charset=utf-8"};
}

HttpAnswer Service::models(const HttpHead& head) {
  const std::vector<Json> models = models_of(*served_);
  if (head.path == kModels) {
    return {200, Json({{"object", "list"}, {"data", Json(models)}}).dump()};
  }
  const std::string name = head.path.substr(kModels.size() + 1);
  const auto found =
      std::ranges::find_if(models, [&](const Json& model) { return model.member("id") == name; });
  if (found == models.end()) return error_answer(no_such_model(name));
  return {200, found->dump()};
}

HttpAnswer Service::tokenizer_info(const HttpHead&) {
  return {200, launcher::tokenizer_info(*served_).dump()};
}

HttpAnswer Service::pipeline(const HttpHead&) {
  Json list = Json::array();
  for (const stage::StageReport& stage : pipeline_.stages) {
    Json tiers = Json::array();
    for (int tier = 0; tier < offload::kTierCount; ++tier) {
      tiers.push_back({{"name", name_of(static_cast<offload::Tier>(tier))},
                       {"bytes", stage.tiers[static_cast<std::size_t>(tier)].planned}});
    }
    list.push_back({{"rank", stage.rank},
                    {"host", stage.host},
                    {"device", stage.device},
                    {"first_layer", stage.first_layer},
                    {"layers", stage.layers},
                    {"tiers", std::move(tiers)}});
    if (!pipeline_.step_of) continue;
    const comm::Step step = pipeline_.step_of(stage.rank);
    list.back()["step"] = describe(step);
    list.back()["pass"] = step.pass < 0 ? Json() : Json(step.pass);
    list.back()["layer"] = step.layer < 0 ? Json() : Json(step.layer);
  }
  return {200, Json({{"stages", std::move(list)}}).dump()};
}

HttpAnswer Service::page(const HttpHead&) {
  return {200,
          kPage,
          "text/html; charset=utf-8",
          {{"Content-Security-Policy",
            "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; frame-ancestors 'none'"}}};
}

void Service::complete_text(Json& body, const std::shared_ptr<HttpReply>& reply) {
  complete(CompletionKind::text, body, reply);
}

void Service::complete_chat(Json& body, const std::shared_ptr<HttpReply>& reply) {
  complete(CompletionKind::chat, body, reply);
}

void Service::tokenize(Json& body, const std::shared_ptr<HttpReply>& reply) {
  take_model(body);
  reply->send({200, tokenize_answer(*served_, body).dump()});
}

void Service::detokenize(Json& body, const std::shared_ptr<HttpReply>& reply) {
  take_model(body);
  reply->send({200, detokenize_answer(*served_, body).dump()});
}

std::string Service::take_model(Json& body) const {
  const ServedModel& served = *served_;
  const std::string asked = text_field(body, "model");
  if (asked.empty()) return served.names.front();
  if (std::ranges::count(served.names, asked) > 0) return asked;
  if (std::ranges::count(served.limits.adapters, asked, &KnownAdapter::name) == 0) {
    throw no_such_model(asked);
  }
  const std::string given = text_field(body, "lora");
  if (!given.empty() && given != asked) {
    throw ApiError{
        400,
        fmt::format("model is the adapter '{}' and lora is '{}'; name one of them", asked, given),
        "lora"};
  }
  body["lora"] = asked;
  return asked;
}

CompletionName Service::new_name(const char* prefix, std::string model) {
  const std::uint64_t number = default_seed(static_cast<std::uint64_t>(served_.load()->created),
                                            fmt::format("{}", next_id_++));
  return {fmt::format("{}-{:016x}", prefix, number), std::move(model), unix_seconds()};
}

void Service::complete(CompletionKind kind, Json& body, const std::shared_ptr<HttpReply>& reply) {
  CompletionName name =
      new_name(kind == CompletionKind::chat ? "chatcmpl" : "cmpl", take_model(body));
  const std::string line = reply->line_name();
  CompletionRequest request =
      served_.load()->parser.parse(body, kind, line.empty() ? name.id : line);
  const auto exchange = std::make_shared<CompletionExchange>(
      request, kind, std::move(name), reply, metrics_,
      [this](std::function<void()> work) { workers_.push(std::move(work)); });
  submit(exchange, std::move(request.rows), reply);
}

void Service::embed(Json& body, const std::shared_ptr<HttpReply>& reply) {
  ServedModel& served = *served_;
  const CompletionName name = new_name("embd", take_model(body));
  EmbeddingRequest request = read_embedding(body, served.parser, served.features, name.id);
  answer_whole(
      std::move(request.rows),
      [form = request.form, name](const WholeExchange::Rows& rows) {
        return embedding_answer(form, name, rows);
      },
      reply);
}

void Service::score(Json& body, const std::shared_ptr<HttpReply>& reply) {
  const CompletionName name = new_name("score", take_model(body));
  ScoreRequest request = read_score(body, served_.load()->parser, name.id);
  answer_whole(
      std::move(request.rows),
      [form = request.form, name](const WholeExchange::Rows& rows) {
        return score_answer(form, name, rows);
      },
      reply);
}

void Service::answer_whole(std::vector<RequestRow> rows, WholeExchange::Form form,
                           const std::shared_ptr<HttpReply>& reply) {
  const auto exchange = std::make_shared<WholeExchange>(
      rows.size(), std::move(form), reply, metrics_,
      [this](std::function<void()> work) { workers_.push(std::move(work)); });
  submit(exchange, std::move(rows), reply);
}

void Service::submit(const std::shared_ptr<Exchange>& exchange, std::vector<RequestRow> rows,
                     const std::shared_ptr<HttpReply>& reply) {
  ServedModel& served = *served_;
  for (const std::string& warning : served.parser.take_warnings()) {
    std::cerr << "sluice: " + warning + '\n';
  }
  const bool live = !reply->is_of_batch();
  if (live) ++open_;
  const ServeJob::Admission admission =
      served.job.submit(exchange, std::move(rows), live ? Urgency::live : Urgency::batch);
  if (admission != ServeJob::Admission::taken) {
    if (live) --open_;
    if (admission == ServeJob::Admission::draining) throw ApiError{503, "the server is ending"};
    throw ApiError{429, "the server has as many waiting requests as it takes; try again", "",
                   "rate_limit_exceeded"};
  }
  reply->on_end([this, exchange, live, &served](bool gone) {
    if (gone) served.job.drop(*exchange);
    if (!live) return;
    if (gone) metrics_.request_left();
    --open_;
  });
}

}  // namespace sluice::launcher
