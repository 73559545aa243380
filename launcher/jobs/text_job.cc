#include "launcher/jobs/text_job.h"

#include <fmt/format.h>

#include <iostream>
#include <stdexcept>
#include <utility>

namespace sluice::launcher {
namespace {

RowFailure failure_of(const RequestRow& row, std::string message) {
  RowFailure failure;
  failure.line = row.line;
  failure.custom_id = row.custom_id;
  failure.naming = row.naming;
  failure.form = row.form;
  failure.kept_fields = row.kept_fields;
  failure.message = std::move(message);
  failure.ours = true;
  return failure;
}

}  // namespace

TextJob::TextJob(const Tokenizer& tokenizer, RowFeed& feed, TextJobOptions options)
    : tokenizer_(tokenizer), feed_(feed), options_(std::move(options)) {
  if (options_.eos < 0) options_.eos = tokenizer.eos();
}

void TextJob::start(CompletionWriter& writer, int threads) {
  writer_ = &writer;
  feed_.start(line(), threads);
}

JobCounts TextJob::counts() const {
  JobCounts counts = counts_;
  counts.failed += feed_.failed();
  counts.skipped += feed_.skipped();
  return counts;
}

stage::Next TextJob::next(stage::Request& request) {
  if (writer_ == nullptr) throw std::logic_error("TextJob::next before start");
  for (JobRow row;;) {
    const stage::Next answer = feed_.next(row);
    for (const std::string& warning : feed_.take_warnings()) {
      std::cerr << "sluice: " + warning + '\n';
    }
    if (answer != stage::Next::request) return answer;
    if (const auto* failure = std::get_if<RowFailure>(&row.row)) {
      write_failure(*failure, row.error_before);
      continue;
    }
    auto& good = std::get<RequestRow>(row.row);
    if (is_too_long(good)) {
      write_failure(failure_of(good, fmt::format("line {} has more tokens than any had when the "
                                                 "run began; run it again with --resume",
                                                 good.line)),
                    row.error_before);
      continue;
    }
    request = to_request(good, next_id_);
    works_.try_emplace(next_id_++, tokenizer_, std::move(good), row.error_before, options_.eos);
    return stage::Next::request;
  }
}

bool TextJob::is_too_long(const RequestRow& row) const {
  const auto tokens = static_cast<std::int64_t>(row.prompt.size()) + row.max_tokens;
  return options_.longest_sequence > 0 && tokens > options_.longest_sequence;
}

TextJob::Work& TextJob::work(std::uint64_t id) {
  const auto found = works_.find(id);
  if (found == works_.end()) {
    throw std::logic_error(fmt::format("request {} is not under way", id));
  }
  return found->second;
}

/// Appends the finished answer, and lets go of all that the row took.
void TextJob::write(std::uint64_t id) {
  const Answer& finished = work(id).answer;
  writer_->append(answer_record(finished, options_.form));
  ++counts_.answered;
  ++counts_.written;
  counts_.prompt_tokens += static_cast<std::int64_t>(finished.row().prompt.size());
  counts_.completion_tokens += static_cast<std::int64_t>(finished.tokens().size());
  works_.erase(id);
}

/// A row that fails as it did before has its record.
void TextJob::write_failure(const RowFailure& failure, std::uint64_t error_before) {
  ++counts_.failed;
  const std::string record = failure_record(failure);
  if (error_before == hash_of(record)) {
    ++counts_.skipped;
    return;
  }
  writer_->append(record);
  ++counts_.written;
}

void TextJob::on_prompt_token(std::uint64_t id, std::int32_t, const stage::TokenResult& result) {
  work(id).answer.add_prompt_token(result);
}

bool TextJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  if (!work(id).answer.add(result)) return false;
  write(id);
  return true;
}

void TextJob::on_prompt_done(std::uint64_t id) {
  work(id).answer.finish_without_tokens();
  write(id);
}

void TextJob::on_failed(std::uint64_t id, const std::string& reason) {
  const Work& failed = work(id);
  write_failure(failure_of(failed.row, reason), failed.error_before);
  works_.erase(id);
}

}  // namespace sluice::launcher
