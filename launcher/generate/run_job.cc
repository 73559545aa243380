#include "launcher/generate/run_job.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <istream>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/chat/chat_template.h"
#include "launcher/generate/open_tokenizer.h"
#include "launcher/generate/row_defaults.h"
#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/input_file.h"
#include "launcher/jobs/input_scan.h"
#include "launcher/jobs/journal.h"
#include "launcher/jobs/journal_facts.h"
#include "launcher/jobs/prompt_job.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/row_feed.h"
#include "launcher/jobs/text_job.h"
#include "launcher/tokenizer/tokenizer.h"

namespace sluice::launcher {

namespace {

class FileSource : public JobSource {
 public:
  FileSource(const RunConfig& config, const ModelFolder& model, std::vector<KnownAdapter> adapters,
             bool needs_output, std::uint64_t model_digest, const JobHooks& hooks)
      : defaults_(row_defaults(config, model)),
        tokenizer_(open_tokenizer(model)),
        chat_(ChatTemplate::open(model.path, tokenizer_)),
        parser_(tokenizer_, defaults_, limits_of(model, std::move(adapters)), &chat_,
                unknown_field_rule(config.job), hooks.translate),
        file_(config.job.input),
        in_(&file_),
        shard_(parse_shard(config.job.shard).value_or(Shard())) {
    // Of a pipe nothing is known but what the model can take.
    scan_.job.longest_sequence = model.config.max_positions;
    scan_.job.most_rule_words = stage::kMaxRuleWords;
    scan_.job.grammars = true;
    scan_.job.features = true;
    if (file_.is_regular()) scan_ = scan_input(file_, parser_, kExactBytes, shard_);
    scan_.job.longest_sequence = std::max(scan_.job.longest_sequence, 1);
    if (needs_output) open_output(config, model, model_digest, hooks.on_record);
  }
  ~FileSource() override {
    file_.stop();
    feed_.reset();
  }

  stage::Job& job() override { return *job_; }
  JobScan scan() const override { return scan_.job; }
  void start(int cores) override {
    if (journal_) {
      writer_->cut();
      journal_->begin([this] { writer_->sync(); });
    }
    job_->start(*writer_, parsing_threads(cores), journal_ ? &*journal_ : nullptr);
  }
  std::uint64_t rows_done(std::uint64_t) const override {
    const JobCounts counts = job_->counts();
    return static_cast<std::uint64_t>(counts.written + counts.skipped);
  }
  bool finish() override {
    if (journal_ && !job_->done()) journal_->flush();
    if (journal_ && job_->done()) {
      writer_->sync();
      journal_->remove();
      say_unused();
    }
    writer_->close();
    return job_->counts().failed > 0;
  }
  void keep_journal(bool to_disk) override {
    if (!journal_) return;
    to_disk ? journal_->flush() : journal_->write();
  }
  JournalUse journal_use() const override { return job_->counts().journal; }

 private:
  void open_output(const RunConfig& config, const ModelFolder& model, std::uint64_t model_digest,
                   const RecordWatch& watch) {
    const Existing existing = config.job.resume      ? Existing::resume
                              : config.job.overwrite ? Existing::overwrite
                                                     : Existing::refuse;
    const bool to_file = !config.job.output.empty() && config.job.output != "-";
    writer_.emplace(to_file ? CompletionWriter(config.job.output, existing, scan_.job.rows, watch)
                            : CompletionWriter::standard_output());
    if (std::filesystem::is_regular_file(config.job.output) && !writer_->locked()) {
      std::cerr << "sluice: " << config.job.output
                << ": this file system has no locks; see to it that no second run writes here\n";
    }
    quiet_ = config.report.quiet;
    FinishedRows finished = writer_->take_finished();
    if (writer_->to_file()) open_journal(config, model, existing, model_digest, finished);
    if (finished.failures() > 0 && !config.report.quiet) {
      std::cerr << fmt::format(
          "sluice: {} keeps {} error records; their rows are tried again, and of two records of a "
          "row the later counts\n",
          config.job.output, finished.failures());
    }
    scan_.job.answered = static_cast<std::int64_t>(finished.ids().size());
    finished.ids().reserve(static_cast<std::size_t>(scan_.job.rows));
    feed_.emplace(in_, file_.name(), parser_,
                  RowSorter(std::move(finished), std::move(scan_.names)), file_.is_regular(),
                  shard_);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const AnswerForm form{config.model,
                          std::chrono::duration_cast<std::chrono::seconds>(now).count()};
    job_.emplace(tokenizer_, *feed_,
                 TextJobOptions{model.eos_ids.front(), form, scan_.job.longest_sequence,
                                scan_.job.most_rule_words, scan_.job.grammars, scan_.job.features});
  }

  void open_journal(const RunConfig& config, const ModelFolder& model, Existing existing,
                    std::uint64_t model_digest, const FinishedRows& finished) {
    JournalOptions options;
    options.path = Journal::path_of(config.job.output);
    options.facts =
        journal_facts(config, defaults_, file_.is_regular() ? file_.name() : "", model_digest);
    options.vocabulary = model.config.vocabulary;
    options.seconds = config.job.journal_seconds;
    journal_.emplace(std::move(options), existing);
    journal_->forget([&](std::uint64_t name) { return finished.ids().is_answered(name); });
    if (quiet_) return;
    if (!journal_->damage().empty()) std::cerr << "sluice: " + journal_->damage() + '\n';
    if (journal_->unused() > 0) {
      std::cerr << fmt::format(
          "sluice: going on with {} unfinished answers, which have {} tokens\n", journal_->unused(),
          journal_->unused_tokens());
    }
  }

  void say_unused() const {
    if (quiet_ || journal_->unused() == 0) return;
    std::cerr << fmt::format(
        "sluice: {} unfinished answers of the journal were not used: their rows are not in the "
        "input, or have changed\n",
        journal_->unused());
  }

  GenerationDefaults defaults_;
  Tokenizer tokenizer_;
  ChatTemplate chat_;
  RequestParser parser_;
  InputFile file_;
  std::istream in_;
  Shard shard_;
  InputScan scan_;
  bool quiet_ = false;
  std::optional<CompletionWriter> writer_;
  std::optional<Journal> journal_;  // where the output is a file
  std::optional<RowFeed> feed_;
  std::optional<TextJob> job_;
};

class PromptSource : public JobSource {
 public:
  PromptSource(const RunConfig& config, const ModelFolder& model)
      : tokenizer_(open_tokenizer(model)),
        parser_(tokenizer_, row_defaults(config, model), limits_of(model)) {
    ParsedRow parsed = parser_.parse_text(config.job.prompt, 1);
    if (const auto* failure = std::get_if<RowFailure>(&parsed)) {
      throw InputError("--prompt: " + failure->message);
    }
    job_.emplace(tokenizer_, std::get<RequestRow>(std::move(parsed)), model.eos_ids.front(),
                 std::cout);
  }

  stage::Job& job() override { return *job_; }
  JobScan scan() const override { return job_->scan(); }
  bool finish() override {
    std::cout.flush();
    if (!job_->failure().empty()) std::cerr << "sluice: " + job_->failure() + '\n';
    return !job_->failure().empty();
  }

 private:
  Tokenizer tokenizer_;
  RequestParser parser_;
  std::optional<PromptJob> job_;
};

class DummySource : public JobSource {
 public:
  DummySource(const RunConfig& config, const ModelFolder& model, std::int32_t slots)
      : job_(prompts_of(config, model, slots)) {
    const JobScan scan = job_.scan();
    if (scan.longest_sequence > model.config.max_positions) {
      throw ConfigError("--prompt-len and --gen-len: " + std::to_string(scan.longest_sequence) +
                        " tokens together, but the model has only " +
                        std::to_string(model.config.max_positions) + " positions");
    }
  }

  stage::Job& job() override { return job_; }
  JobScan scan() const override { return job_.scan(); }
  bool finish() override { return job_.failed() > 0; }

 private:
  static DummyPrompts prompts_of(const RunConfig& config, const ModelFolder& model,
                                 std::int32_t slots) {
    DummyPrompts prompts;
    prompts.count = config.job.num_prompts > 0 ? config.job.num_prompts : slots;
    prompts.prompt_len = config.job.prompt_len;
    prompts.gen_len =
        config.job.gen_len > 0 ? config.job.gen_len : config.generation.max_new_tokens;
    prompts.vocabulary = model.config.vocabulary;
    prompts.seed = config.generation.sampling.seed;
    return prompts;
  }

  DummyJob job_;
};

}  // namespace

RunJob::RunJob(const RunConfig& config, const OpenedModel& opened, std::int32_t slots,
               bool needs_output, std::uint64_t model_digest, const JobHooks& hooks)
    : config_(config) {
  if (hooks.on_open) hooks.on_open();
  const ModelFolder& model = opened.folder;
  if (hooks.make_source) {
    source_ = hooks.make_source(config, opened, needs_output);
  } else if (config.job.has_dummy_prompts()) {
    source_ = std::make_unique<DummySource>(config, model, slots);
  } else if (!config.job.prompt.empty()) {
    source_ = std::make_unique<PromptSource>(config, model);
  } else {
    source_ = std::make_unique<FileSource>(config, model, known_adapters(opened.adapters),
                                           needs_output, model_digest, hooks);
  }
  scan_ = source_->scan();
}

RunJob::~RunJob() = default;

const JobScan& RunJob::scan() const { return scan_; }

void RunJob::start(int cores, double predicted_seconds) {
  source_->start(cores);
  if (!config_.report.quiet && source_->shows_progress()) {
    progress_.emplace(std::cerr, progress_style(config_.report, look_around(STDERR_FILENO)),
                      "generating", Progress::Unit::prompts,
                      static_cast<std::uint64_t>(scan_.rows));
    progress_->expect(predicted_seconds);
  }
}

bool RunJob::finish() {
  show_progress();
  if (progress_) progress_->finish();
  return source_->finish();
}

void RunJob::keep_journal(bool to_disk) { source_->keep_journal(to_disk); }

JournalUse RunJob::journal_use() const { return source_->journal_use(); }

void RunJob::planned(const PlannedPipeline& pipeline) { source_->planned(pipeline); }

void RunJob::stop() noexcept { source_->stop(); }

void RunJob::before_exit() noexcept { source_->before_exit(); }

void RunJob::show_progress() {
  if (progress_) progress_->update(source_->rows_done(done_), tokens_);
}

void RunJob::request_done() {
  ++done_;
  show_progress();
}

stage::HeadLine& RunJob::line() { return source_->job().line(); }

stage::Next RunJob::next(stage::Request& request) { return source_->job().next(request); }

void RunJob::on_prompt_token(std::uint64_t id, std::int32_t index,
                             const stage::TokenResult& result) {
  source_->job().on_prompt_token(id, index, result);
}

bool RunJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  ++tokens_;
  const bool finished = source_->job().on_token(id, result);
  if (finished) {
    request_done();
  } else {
    show_progress();
  }
  return finished;
}

void RunJob::on_embedding(std::uint64_t id, std::span<const float> values) {
  source_->job().on_embedding(id, values);
}

void RunJob::on_prompt_done(std::uint64_t id) {
  source_->job().on_prompt_done(id);
  request_done();
}

void RunJob::on_failed(std::uint64_t id, const std::string& reason) {
  source_->job().on_failed(id, reason);
  request_done();
}

void RunJob::on_cancelled(std::uint64_t id) { source_->job().on_cancelled(id); }

}  // namespace sluice::launcher
