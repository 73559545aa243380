#include "launcher/bench/serve_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/bench/child_run.h"
#include "launcher/bench/child_server.h"
#include "launcher/bench/figure_table.h"
#include "launcher/bench/http_client.h"
#include "launcher/bench/serve_figures.h"
#include "launcher/bench/serve_load.h"

namespace sluice::launcher {

namespace {

constexpr std::chrono::milliseconds kPoll{20};

/// Its tokens are what made-up prompts are made of: every vocabulary has them, and none is special.
constexpr std::string_view kText =
    "The river rises in the hills and runs past seven towns before it meets the sea. In spring its "
    "water is brown, and people who live near the bridge move their boats to higher ground. A man "
    "sells bread there; his daughter reads old books about birds, ships and far cities, and asks "
    "every stranger what they have seen. Question: how many boats can one family keep? Answer: 42.";

/// The server of a run, and what must be looked at while it works.
class Server {
 public:
  explicit Server(const BenchArguments& arguments) {
    const char* key = std::getenv("SLUICE_API_KEY");
    std::string url = arguments.load.url;
    if (url.empty()) {
      std::vector<std::string> words = {"--model", arguments.model};
      words.insert(words.end(), arguments.run_flags.begin(), arguments.run_flags.end());
      child_.emplace(arguments.load.ranks, words, folder_.path() / "log.txt", signals_);
      url = child_->url();
    }
    address_ = server_address(url, key == nullptr ? "" : key);
    wait_until_ready(url);
  }

  const ServerAddress& address() const { return address_; }

  /// Throws where the server has ended, or a signal came.
  void check() {
    throw_on_signal(signals_.wait(std::chrono::milliseconds(0)));
    if (child_) child_->check();
  }

 private:
  void wait_until_ready(const std::string& url) {
    while (true) {
      const HttpAnswer answer = ask(address_, "/health");
      check();
      if (answer.status == 0 && !child_) {
        throw IoError(fmt::format("{}: cannot be reached: {}", url, answer.body));
      }
      if (answer.status != 0 && answer.status != 503) return;  // some have no /health
      throw_on_signal(signals_.wait(kPoll));
    }
  }

  HeldSignals signals_;
  const TemporaryFolder folder_;
  std::optional<ChildServer> child_;
  ServerAddress address_;
};

/// Ids for made-up prompts. vLLM and we call the text's field prompt, llama.cpp content.
std::vector<std::int32_t> ordinary_ids(const ServerAddress& server) {
  const Json body = {{"prompt", kText}, {"content", kText}, {"add_special_tokens", false}};
  const HttpAnswer answer = ask(server, "/tokenize", body.dump());
  std::vector<std::int32_t> ids;
  const Json parsed = Json::parse_or_null(answer.body);
  for (const Json& id : parsed.member("tokens")) {
    if (id.is_integer_in(0, INT32_MAX)) ids.push_back(static_cast<std::int32_t>(id.integer()));
  }
  if (answer.status != 200 || ids.empty()) {
    throw IoError(fmt::format(
        "/tokenize of the server gives no ids (status {}: {}); prompts cannot be made up, so give "
        "--dataset FILE",
        answer.status, error_text(answer.body)));
  }
  std::ranges::sort(ids);
  const auto repeated = std::ranges::unique(ids);
  ids.erase(repeated.begin(), repeated.end());
  return ids;
}

struct Requests {
  std::vector<LoadRequest> warm_up;
  std::vector<LoadRequest> measured;
};

Requests requests_of(const BenchArguments& arguments, const ServerAddress& server) {
  const ServeLoad& load = arguments.load;
  const BenchShape& shape = arguments.shapes.front();
  Requests requests;
  if (load.dataset.empty()) {
    const std::vector<std::int32_t> ids = ordinary_ids(server);
    requests.warm_up = made_up_requests(ids, shape, load, load.requests, load.warm_up);
    requests.measured = made_up_requests(ids, shape, load, 0, load.requests);
  } else {
    std::ifstream lines(load.dataset);
    if (!lines) throw InputError(fmt::format("{}: cannot be read", load.dataset));
    requests.measured = read_requests(lines, load.dataset, shape, load.requests);
    for (std::int32_t i = 0; i < load.warm_up; ++i) {
      requests.warm_up.push_back(
          requests.measured[static_cast<std::size_t>(i) % requests.measured.size()]);
    }
  }
  set_times(load, requests.measured);
  return requests;
}

const std::vector<FigureColumn> kWhole = {{"completed", "requests"},
                                          {"failed", "failed"},
                                          {"duration_s", "s"},
                                          {"requests_per_second", "requests/s"},
                                          {"output_tokens_per_second", "output tokens/s"},
                                          {"total_tokens_per_second", "all tokens/s"}};
const std::vector<FigureColumn> kLatencies = {
    {"latency", "ms", false}, {"mean_ms", "mean"}, {"median_ms", "median"}, {"p99_ms", "p99"}};

void show(const Json& figures, BenchForm form, std::ostream& out) {
  if (form == BenchForm::json) {
    out << figures.dump(2) << '\n';
    return;
  }
  out << figure_table(kWhole, Json::array({figures}), form) << '\n'
      << figure_table(kLatencies, figures.at("latencies"), form);
}

/// The figures with what was asked for, and what became of each request.
void write_file(const BenchArguments& arguments, Json figures,
                const std::vector<AnswerTimes>& answers) {
  const ServeLoad& load = arguments.load;
  const BenchShape& shape = arguments.shapes.front();
  figures["load"] = {
      {"url", load.url},
      {"model", arguments.model},
      {"ranks", load.ranks},
      {"request_rate", load.request_rate > 0 ? Json(load.request_rate) : Json("inf")},
      {"max_concurrency", load.at_once > 0 ? Json(load.at_once) : Json()},
      {"dataset", load.dataset},
      {"prompt_tokens", shape.prompt},
      {"prefix_tokens", load.prefix},
      {"answer_tokens", shape.answer},
      {"seed", load.seed}};
  Json list = Json::array();
  for (const AnswerTimes& answer : answers) {
    const auto since = [&](BenchClock::time_point from, BenchClock::time_point to) {
      return std::chrono::duration<double, std::milli>(to - from).count();
    };
    Json one = {{"sent_ms", since(answers.front().begin, answer.begin)},
                {"prompt_tokens", answer.prompt_tokens},
                {"output_tokens", answer.output_tokens},
                {"error", answer.error.empty() ? Json() : Json(answer.error)}};
    one["event_ms"] = Json::array();
    for (const auto event : answer.events) one["event_ms"].push_back(since(answer.begin, event));
    list.push_back(std::move(one));
  }
  figures["answers"] = std::move(list);
  std::ofstream file(load.json);
  file << figures.dump() << '\n' << std::flush;
  if (!file) throw IoError(fmt::format("--json {}: cannot be written", load.json));
}

}  // namespace

void bench_serve(const BenchArguments& arguments, std::ostream& out, std::ostream& log) {
  const ServeLoad& load = arguments.load;
  Server server(arguments);
  const Requests requests = requests_of(arguments, server.address());
  const auto poll = [&server] { server.check(); };
  for (const AnswerTimes& answer : run_load(server.address(), requests.warm_up, {1}, poll)) {
    if (answer.is_complete()) continue;
    throw Error(ExitStatus::failure,
                fmt::format("a request of the warm-up failed: {}", answer.error));
  }
  log << fmt::format(
      "{} requests, {}, at most {} at a time\n", load.requests,
      load.request_rate > 0 ? fmt::format("{} per second", load.request_rate) : "all at once",
      load.at_once > 0 ? load.at_once : load.requests);
  const std::vector<AnswerTimes> answers =
      run_load(server.address(), requests.measured, {load.at_once}, poll);
  const ServeFigures figures = serve_figures(answers);
  for (const auto& [sentence, count] : figures.failures) {
    log << fmt::format("{} request{} failed: {}\n", count, count == 1 ? "" : "s", sentence);
  }
  if (figures.complete == 0) {
    throw Error(ExitStatus::failure, fmt::format("none of {} requests was answered: {}",
                                                 answers.size(), figures.failures.begin()->first));
  }
  show(figures_json(figures), arguments.form, out);
  if (!load.json.empty()) write_file(arguments, figures_json(figures), answers);
}

}  // namespace sluice::launcher
