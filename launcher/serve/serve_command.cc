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
#include <thread>
#include <utility>
#include <vector>

#include "launcher/generate/job_source.h"
#include "launcher/jobs/journal.h"
#include "launcher/jobs/journal_facts.h"
#include "launcher/jobs/row_feed.h"
#include "launcher/serve/http_server.h"
#include "launcher/serve/served_model.h"
#include "launcher/serve/service.h"
#include "launcher/serve/stored_routes.h"

namespace sluice::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Lines of a batch that are read ahead: twice the places, within these.
constexpr std::size_t kLeastLines = 8;
constexpr std::size_t kMostLines = 256;

constexpr seconds kDrain{30};            // for answers under way when the server is told to stop
constexpr seconds kAfterDrain{7};        // then for the ranks to end
constexpr seconds kLastAnswers{5};       // to write what is answered
constexpr milliseconds kLastWords{500};  // of a server that loses a rank

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

class ServeSource final : public JobSource {
 public:
  ServeSource(const RunConfig& config, const ServeArguments& arguments, const OpenedModel& model,
              bool works, std::ostream& out)
      : quiet_(config.report.quiet),
        metrics_(arguments.names.empty() ? config.model : arguments.names.front()) {
    if (works) listen(arguments, out);
    served_.emplace(config, arguments, model);
    if (stored_) open_journal(config, model);
  }

  ~ServeSource() override {
    end_drain();
    if (!server_) return;
    if (stored_) stored_->runner.stop();
    served_->job.fail_all("the server has ended");
    server_->flush(kLastWords);
    workers_.stop();
    server_->stop();  // its connections tell the job that their clients have left
  }

  stage::Job& job() override { return served_->job; }
  JobScan scan() const override {
    JobScan scan = served_->scan();
    scan.features = true;  // for /v1/embeddings
    return scan;
  }
  bool shows_progress() const override { return false; }

  void planned(const PlannedPipeline& pipeline) override {
    service_->set_pipeline(pipeline);
    places_ = static_cast<std::size_t>(pipeline.places);
    served_->job.set_places(places_, served_->scan().usual_sequence);
  }

  void start(int cores) override {
    workers_.start(parsing_threads(cores));
    service_->open(*served_);
    if (journal_) {
      journal_->begin([] {});  // lines of the results that a power cut takes are made again
      served_->job.set_journal(*journal_);
    }
    if (stored_) stored_->runner.start(std::clamp(2 * places_, kLeastLines, kMostLines));
    if (!quiet_)
      std::cerr << fmt::format("sluice: ready to answer as {}\n", served_->names.front());
  }

  bool finish() override {
    end_drain();
    server_->flush(kLastAnswers);
    keep_journal(true);
    return false;
  }

  void keep_journal(bool to_disk) override {
    if (journal_) to_disk ? journal_->flush() : journal_->write();
  }

  void stop() noexcept override {
    server_->end_soon();
    if (stored_) stored_->runner.stop_soon();
    served_->job.drain();
    drainer_ = std::thread([this] {
      std::unique_lock lock(mutex_);
      if (ended_.wait_for(lock, kDrain, [this] { return has_ended_; })) return;
      lock.unlock();
      served_->job.fail_all("the server has ended before the answer was complete");
    });
  }

  void before_exit() noexcept override {
    served_->job.fail_all("the server has lost a part of the model, and ends");
    server_->flush(kLastWords);
  }

 private:
  void listen(const ServeArguments& arguments, std::ostream& out) {
    server_.emplace(arguments.host, arguments.port);
    service_.emplace(ServiceOptions{read_key(arguments), arguments.allow_origin}, metrics_,
                     workers_);
    if (!arguments.files_dir.empty()) {
      stored_.emplace(arguments.files_dir, *service_);
      service_->set_stored(stored_->routes);
    }
    server_->serve(*service_);
    out << fmt::format("sluice: listening on http://{}\n", server_->address()) << std::flush;
  }

  /// Of the answers of batches that are under way. What an earlier run with another model left of
  /// them is of no use.
  void open_journal(const RunConfig& config, const OpenedModel& model) {
    JournalOptions options;
    options.path = stored_->files.folder() / "batches" / "journal";
    options.facts = journal_facts(config, {}, "", digest_of(model));
    options.vocabulary = model.folder.config.vocabulary;
    const bool goes_on = stored_->batches.next().has_value();
    try {
      journal_.emplace(options, goes_on ? Existing::resume : Existing::overwrite);
    } catch (const ConfigError& problem) {
      std::cerr << fmt::format("sluice: unfinished answers of batches begin anew: {}\n",
                               problem.what());
      journal_.emplace(options, Existing::overwrite);
    }
    if (quiet_) return;
    if (!journal_->damage().empty()) std::cerr << "sluice: " + journal_->damage() + '\n';
    if (journal_->unused() == 0) return;
    std::cerr << fmt::format(
        "sluice: going on with {} unfinished answers of batches, which have {} tokens\n",
        journal_->unused(), journal_->unused_tokens());
  }

  void end_drain() {
    {
      const std::lock_guard lock(mutex_);
      has_ended_ = true;
    }
    ended_.notify_all();
    if (drainer_.joinable()) drainer_.join();
  }

  /// What is kept for clients.
  struct Stored {
    Stored(const std::string& folder, Service& service)
        : files(folder),
          batches(folder),
          runner(batches, files,
                 [&service](const std::string& path, Json& body,
                            const std::shared_ptr<HttpReply>& reply) {
                   service.ask(path, body, reply);
                 }),
          routes(files, batches, runner) {}

    FileStore files;
    BatchStore batches;
    BatchRunner runner;
    StoredRoutes routes;
  };

  const bool quiet_;
  std::size_t places_ = 1;
  ServeMetrics metrics_;
  std::optional<Journal> journal_;    // outlives the job
  std::optional<HttpServer> server_;  // outlives replies, which the job and the workers have
  std::optional<ServedModel> served_;
  WorkQueue workers_;
  std::optional<Service> service_;
  std::optional<Stored> stored_;
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
  hooks.make_source = [&](const RunConfig& used, const OpenedModel& model, bool works) {
    return std::make_unique<ServeSource>(used, arguments, model, works, out);
  };
  hooks.stop_time = kDrain + kAfterDrain;
  hooks.advice = "answers under way get 30 s to come to their ends";
  return generate(config, dry_run, command_line, say, hooks);
}

}  // namespace sluice::launcher
