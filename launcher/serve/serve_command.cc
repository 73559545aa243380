#include "launcher/serve/serve_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "launcher/chat/chat_template.h"
#include "launcher/generate/job_source.h"
#include "launcher/generate/open_tokenizer.h"
#include "launcher/generate/row_defaults.h"
#include "launcher/jobs/row_feed.h"
#include "launcher/serve/http_server.h"
#include "launcher/serve/service.h"

namespace sluice::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kDrain{30};            // for answers under way when the server is told to stop
constexpr seconds kAfterDrain{7};        // then for the ranks to end
constexpr seconds kLastAnswers{5};       // to write what is answered
constexpr milliseconds kLastWords{500};  // of a server that loses a rank
constexpr std::int32_t kUsualTokens =
    4096;  // of a sequence: the cache has room for it in each place
constexpr std::int32_t kCompletionTokens = 16;  // OpenAI's default

/// The first line of --api-key-file, or else SLUICE_API_KEY; empty: no key.
std::string read_key(const ServeArguments& arguments) {
  if (arguments.api_key_file.empty()) {
    const char* key = std::getenv("SLUICE_API_KEY");
    return key == nullptr ? "" : key;
  }
  std::ifstream file(arguments.api_key_file);
  std::string key;
  std::getline(file, key);
  while (key.ends_with('\r') || key.ends_with(' ')) key.pop_back();
  if (!key.empty()) return key;
  throw ConfigError(fmt::format("--api-key-file {}: its first line has no key that can be read",
                                arguments.api_key_file));
}

/// OpenAI's defaults, where neither the configuration nor the model says otherwise.
GenerationDefaults request_defaults(const RunConfig& config, const ModelFolder& model,
                                    std::int32_t max_tokens) {
  RunConfig asked = config;
  GenerationDefaults& defaults = asked.generation;
  if (!defaults.said.contains("temperature")) defaults.sampling.temperature = 1.0F;
  if (!defaults.said.contains("max_new_tokens")) defaults.max_new_tokens = max_tokens;
  // Requests without a seed differ from run to run.
  if (!defaults.said.contains("seed")) defaults.sampling.seed = std::random_device{}();
  asked.report.quiet = config.report.quiet || max_tokens != kCompletionTokens;  // said once
  return row_defaults(asked, model);
}

ModelLimits limits_for(const ModelFolder& model, const ServeArguments& arguments) {
  ModelLimits limits = limits_of(model);
  if (arguments.max_model_len > limits.positions) {
    throw ConfigError(fmt::format("--max-model-len is {}, but the model has {} positions",
                                  arguments.max_model_len, limits.positions));
  }
  if (arguments.max_model_len > 0) limits.positions = arguments.max_model_len;
  return limits;
}

ChatTemplate chat_for(const ModelFolder& model, const ServeArguments& arguments,
                      const Tokenizer& tokenizer) {
  if (arguments.chat_template.empty()) return ChatTemplate::open(model.path, tokenizer);
  return ChatTemplate::open_file(arguments.chat_template, model.path, tokenizer);
}

class ServeSource final : public JobSource {
 public:
  ServeSource(const RunConfig& config, const ServeArguments& arguments, const ModelFolder& model,
              bool works, std::ostream& out)
      : quiet_(config.report.quiet),
        names_(arguments.names.empty() ? std::vector{config.model} : arguments.names),
        limits_(limits_for(model, arguments)),
        metrics_(names_.front()) {
    if (works) listen(arguments, out);
    tokenizer_.emplace(open_tokenizer(model));
    chat_.emplace(chat_for(model, arguments, *tokenizer_));
    const auto parser = [&](std::int32_t max_tokens) {
      return RequestParser(*tokenizer_, request_defaults(config, model, max_tokens), limits_,
                           &*chat_,
                           config.job.strict ? UnknownFieldRule::refuse : UnknownFieldRule::ignore);
    };
    parser_.emplace(parser(kCompletionTokens), parser(INT32_MAX));
    job_.emplace(*tokenizer_, model.eos_ids.front(),
                 ServeLimits{static_cast<std::size_t>(arguments.max_waiting)});
    served_.emplace(ServedModel{names_, seconds_now(), limits_.positions, model.config.vocabulary,
                                *tokenizer_, *chat_, *parser_, *job_});
  }

  ~ServeSource() override {
    end_drain();
    if (!server_) return;
    job_->fail_all("the server has ended");
    server_->flush(kLastWords);
    workers_.stop();
    server_->stop();  // its connections tell the job that their clients have left
  }

  stage::Job& job() override { return *job_; }
  JobScan scan() const override {
    JobScan scan;
    scan.longest_sequence = limits_.positions;
    scan.usual_sequence = std::min(kUsualTokens, limits_.positions);
    scan.most_rule_words = stage::kMaxRuleWords;
    scan.grammars = true;
    return scan;
  }
  bool shows_progress() const override { return false; }

  void start(int cores) override {
    workers_.start(parsing_threads(cores));
    service_->open(*served_);
    if (!quiet_) std::cerr << fmt::format("sluice: ready to answer as {}\n", names_.front());
  }

  bool finish() override {
    end_drain();
    server_->flush(kLastAnswers);
    return false;
  }

  void stop() noexcept override {
    server_->end_soon();
    job_->drain();
    drainer_ = std::thread([this] {
      std::unique_lock lock(mutex_);
      if (ended_.wait_for(lock, kDrain, [this] { return has_ended_; })) return;
      lock.unlock();
      job_->fail_all("the server has ended before the answer was complete");
    });
  }

  void before_exit() noexcept override {
    job_->fail_all("the server has lost a part of the model, and ends");
    server_->flush(kLastWords);
  }

 private:
  static std::int64_t seconds_now() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<seconds>(now).count();
  }

  void listen(const ServeArguments& arguments, std::ostream& out) {
    server_.emplace(arguments.host, arguments.port);
    service_.emplace(ServiceOptions{read_key(arguments), arguments.allow_origin}, metrics_,
                     workers_);
    server_->serve(*service_);
    out << fmt::format("sluice: listening on http://{}\n", server_->address()) << std::flush;
  }

  void end_drain() {
    {
      const std::lock_guard lock(mutex_);
      has_ended_ = true;
    }
    ended_.notify_all();
    if (drainer_.joinable()) drainer_.join();
  }

  const bool quiet_;
  const std::vector<std::string> names_;
  const ModelLimits limits_;
  ServeMetrics metrics_;
  std::optional<HttpServer> server_;  // outlives replies, which the job and the workers have
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
  std::optional<CompletionParser> parser_;
  std::optional<ServeJob> job_;
  std::optional<ServedModel> served_;
  WorkQueue workers_;
  std::optional<Service> service_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
  std::thread drainer_;

  /// Also where the constructor fails: before what the server's thread uses.
  struct StopsServer {
    std::optional<HttpServer>& server;
    ~StopsServer() {
      if (server) server->stop();
    }
  } stops_server_{server_};
};

}  // namespace

ExitStatus serve(const RunConfig& config, const ServeArguments& arguments, DryRun dry_run,
                 const std::string& command_line,
                 const std::function<void(const std::string& sentence)>& say, std::ostream& out) {
  JobHooks hooks;
  hooks.make_source = [&](const RunConfig& used, const ModelFolder& model, bool works) {
    return std::make_unique<ServeSource>(used, arguments, model, works, out);
  };
  hooks.stop_time = kDrain + kAfterDrain;
  hooks.advice = "answers under way get 30 s to come to their ends";
  return generate(config, dry_run, command_line, say, hooks);
}

}  // namespace sluice::launcher
