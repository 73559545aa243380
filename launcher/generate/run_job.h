// The head's job in all its forms (a file, one prompt, made-up prompts), with progress.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/config/run_config.h"
#include "launcher/generate/job_source.h"
#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_row.h"
#include "launcher/model/opened_model.h"
#include "launcher/report/progress.h"
#include "stage/report.h"
#include "stage/request.h"

namespace sluice::launcher {

/// What a command does beside answering rows; each may be empty.
struct JobHooks {
  std::function<void()> on_open;  // on the head, before it reads a row. May throw InputError.
  RowTranslation translate;       // of an input in another form; see RequestParser
  RecordWatch on_record;          // of the output file
  /// Makes the rows' source on the head before anything is loaded, where rows come from elsewhere
  /// than the configuration says. `works`: not only a plan is asked for.
  std::function<std::unique_ptr<JobSource>(const RunConfig& config, const OpenedModel& model,
                                           bool works)>
      make_source;
  std::chrono::milliseconds stop_time{7000};  // see comm::MpiOptions
  std::string advice;                         // likewise; empty: the job's own
};

/// Rank 0 only. In order: make it, scan(), start(), run it, finish().
class RunJob : public stage::Job {
 public:
  /// Looks at the input (input_scan.h) and opens the output, so that what is wrong with them is
  /// known before anything is loaded. `slots`: how many made-up prompts there are unless told.
  /// `needs_output`: not when only a plan is asked for. `model_digest`: of the model with its
  /// weights; with `needs_output` a journal of another one is refused. Throws InputError,
  /// ConfigError.
  RunJob(const RunConfig& config, const OpenedModel& model, std::int32_t slots, bool needs_output,
         std::uint64_t model_digest = 0, const JobHooks& hooks = {});
  ~RunJob() override;

  const JobScan& scan() const;

  /// Begins to read rows and to show progress, beside how long it was predicted to take (0: that
  /// is not known). `cores`: threads that this rank computes with.
  void start(int cores, double predicted_seconds = 0);
  /// Ends progress, brings output and journal to the disk; returns whether some rows failed. The
  /// journal is removed if every row is in the output. Throws IoError, CapacityError.
  bool finish();
  /// The journal has every token so far, in its file. `to_disk`: and on the disk. By the thread
  /// that runs the job, or after it.
  void keep_journal(bool to_disk);
  JournalUse journal_use() const;
  // As JobSource has them:
  void planned(const PlannedPipeline& pipeline);
  void stop() noexcept;
  void before_exit() noexcept;

  // stage::Job
  stage::HeadLine& line() override;
  stage::Next next(stage::Request& request) override;
  void on_prompt_token(std::uint64_t id, std::int32_t index,
                       const stage::TokenResult& result) override;
  bool on_token(std::uint64_t id, const stage::TokenResult& result) override;
  void on_embedding(std::uint64_t id, std::span<const float> values) override;
  void on_prompt_done(std::uint64_t id) override;
  void on_failed(std::uint64_t id, const std::string& reason) override;
  void on_cancelled(std::uint64_t id) override;

 private:
  void request_done();
  void show_progress();

  const RunConfig& config_;
  std::unique_ptr<JobSource> source_;
  JobScan scan_;
  std::optional<Progress> progress_;
  std::uint64_t done_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace sluice::launcher
