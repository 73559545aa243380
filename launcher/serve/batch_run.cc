#include "launcher/serve/batch_run.h"

#include <fmt/format.h>

#include <chrono>
#include <exception>
#include <fstream>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/jobs/line_reader.h"
#include "launcher/jobs/request_parser.h"
#include "launcher/jobs/request_row.h"

namespace sluice::launcher {

namespace fs = std::filesystem;

namespace {

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

/// What has an answer, and what has an error.
struct BatchRun::Results {
  explicit Results(const Batch& batch, const BatchStore& batches)
      : output(batches.output_of(batch.id), Existing::resume),
        errors(batches.errors_of(batch.id), Existing::resume),
        known_errors(errors.take_finished()) {
    counts = {batch.counts.total, output.finished().records(), known_errors.records()};
  }

  bool has(std::uint64_t key) const {
    return output.finished().ids().is_answered(key) || known_errors.error_of(key) != 0;
  }

  CompletionWriter output;
  CompletionWriter errors;
  FinishedRows known_errors;
  Batch::Counts counts;
};

BatchRun::BatchRun(const Batch& batch, BatchStore& batches, FileStore& files,
                   const AskEndpoint& ask, std::size_t lines_at_once,
                   const std::atomic<bool>& stopping)
    : batch_(batch),
      batches_(batches),
      files_(files),
      ask_(ask),
      lines_at_once_(lines_at_once),
      stopping_(stopping) {}

BatchRun::~BatchRun() { leave(); }

std::string BatchRun::name() const { return fmt::format("the file {}", batch_.input_file); }

/// Counts the lines, and gives the results their names.
void BatchRun::validate() {
  std::ifstream in(files_.path_of(batch_.input_file), std::ios::binary);
  LineReader lines(in, name(), kMostBatchLineBytes);
  std::int64_t total = 0;
  for (std::string line; lines.next(line);) total += is_blank(line) ? 0 : 1;
  if (total == 0) throw InputError(fmt::format("{} has no lines", name()));
  if (total > kMostBatchLines) {
    throw InputError(
        fmt::format("{} has {} lines; a batch may have {}", name(), total, kMostBatchLines));
  }
  batch_ = batches_.change(batch_.id, [total](Batch& batch) {
    batch.counts.total = total;
    batch.output_file = random_id("file");
    batch.error_file = random_id("file");
    batch.begun = unix_seconds();
    if (batch.status == BatchStatus::validating) batch.status = BatchStatus::in_progress;
  });
}

void BatchRun::run() {
  if (batch_.status != BatchStatus::finalizing) {
    if (batch_.begun == 0) validate();
    Results results(batch_, batches_);
    batches_.count(batch_.id, results.counts);
    answer_lines(results);
    leave();
    results.output.close();
    results.errors.close();
    if (stopping_) return;
    if (dropped_ && is_wanted()) throw IoError("some of its lines were dropped unanswered");
  }
  finish();
}

void BatchRun::answer_lines(Results& results) {
  std::ifstream in(files_.path_of(batch_.input_file), std::ios::binary);
  LineReader lines(in, name(), kMostBatchLineBytes);
  for (std::string text; !is_over() && lines.next(text);) {
    if (is_blank(text)) continue;
    BatchLine line;
    if (lines.too_long()) {
      line.number = lines.number();
      line.problem = ApiError{
          400, fmt::format("line {} has more than {} bytes", line.number, kMostBatchLineBytes)};
    } else {
      line = read_batch_line(text, lines.number(), batch_.endpoint);
    }
    take_line(std::move(line), results);
    while (asked_.size() >= lines_at_once_ && !is_over()) write_answers(results);
  }
  while (!asked_.empty() && !is_over()) write_answers(results);
}

void BatchRun::take_line(BatchLine line, Results& results) {
  const std::uint64_t key = line.key();
  if (!met_.insert(key).second) {
    if (results.known_errors.take_duplicate(key)) return;
    line.problem = ApiError{400,
                            fmt::format("line {}: an earlier line has the custom_id {}",
                                        line.number, Json(line.custom_id).dump()),
                            "custom_id", kDuplicateCustomId};
  } else if (results.has(key)) {
    return;
  }
  if (line.problem) {
    return write(line, line.problem->status, error_body(*line.problem).dump(), results);
  }
  ask(std::move(line));
}

void BatchRun::ask(BatchLine line) {
  const std::int64_t number = line.number;
  const std::string name = fmt::format("{}/{}", batch_.id, line.custom_id);
  auto reply = std::make_shared<BatchReply>(answers_, number, name);
  Json body = std::exchange(line.body, nullptr);
  if (body.member("seed").is_null()) body["seed"] = default_seed(0, name) >> 1;  // fits OpenAI's
  asked_[number] = {std::move(line), reply};
  try {
    ask_(batch_.endpoint, body, reply);
  } catch (const ApiError& error) {
    if (error.status == 503) {  // the server ends
      asked_.erase(number);
      dropped_ = true;
      return;
    }
    reply->send(error_answer(error));
  } catch (const std::exception& problem) {
    reply->send(error_answer({500, problem.what()}));
  }
}

/// Waits for some, for wake(), or until the batch expires.
void BatchRun::write_answers(Results& results) {
  const std::chrono::system_clock::time_point expires{std::chrono::seconds(batch_.expires)};
  for (const BatchAnswers::One& one : answers_->take(expires)) {
    const auto found = asked_.find(one.line);
    if (found == asked_.end()) continue;  // it was answered before
    const Asked asked = std::move(found->second);
    asked_.erase(found);
    if (one.answer) {
      write(asked.line, one.answer->status, one.answer->body, results);
    } else {
      dropped_ = true;
    }
  }
}

void BatchRun::write(const BatchLine& line, int status, const std::string& body, Results& results) {
  const bool answered = status == 200;
  (answered ? results.output : results.errors).append(batch_record(line, status, body));
  (answered ? results.counts.completed : results.counts.failed) += 1;
  batches_.count(batch_.id, results.counts);
}

/// No further line is to be asked for.
bool BatchRun::is_over() const { return stopping_ || dropped_ || !is_wanted(); }

/// Neither cancelled nor too late.
bool BatchRun::is_wanted() const {
  const auto batch = batches_.find(batch_.id);
  return batch && batch->status != BatchStatus::cancelling && unix_seconds() < batch->expires;
}

void BatchRun::leave() {
  for (auto& [number, asked] : std::exchange(asked_, {})) asked.reply->leave();
}

void BatchRun::finish() {
  batch_ = batches_.change(batch_.id, [](Batch& batch) {
    if (batch.status == BatchStatus::cancelling || batch.finalizing != 0) return;
    batch.status = BatchStatus::finalizing;
    batch.finalizing = unix_seconds();
  });
  const std::string output =
      keep(batches_.output_of(batch_.id), batch_.output_file, "output.jsonl");
  const std::string errors = keep(batches_.errors_of(batch_.id), batch_.error_file, "error.jsonl");
  batches_.change(batch_.id, [&](Batch& batch) {
    const Batch::Counts& counts = batch.counts;
    const bool all = counts.completed + counts.failed >= counts.total;
    batch.output_file = output;
    batch.error_file = errors;
    batch.ended = unix_seconds();
    batch.status = batch.status == BatchStatus::cancelling ? BatchStatus::cancelled
                   : all                                   ? BatchStatus::completed
                                                           : BatchStatus::expired;
  });
}

/// The file with results becomes one of the store; empty: there are none.
std::string BatchRun::keep(const fs::path& path, const std::string& id, const char* filename_end) {
  std::error_code error;
  if (!fs::exists(path, error)) return files_.find(id) ? id : "";
  if (fs::file_size(path, error) == 0) {
    fs::remove(path, error);
    return "";
  }
  files_.adopt({id, fmt::format("{}_{}", batch_.id, filename_end), "batch_output"}, path);
  return id;
}

}  // namespace sluice::launcher
