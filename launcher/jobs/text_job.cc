#include "launcher/jobs/text_job.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace sluice::launcher {

TextJob::TextJob(const Tokenizer& tokenizer, Requests requests, TextJobOptions options)
    : tokenizer_(tokenizer), requests_(std::move(requests)), options_(std::move(options)) {
  if (options_.eos < 0) options_.eos = tokenizer.eos();
}

void TextJob::skip_finished(FinishedRows finished) {
  counts_.failed += finished.failures();
  counts_.skipped += static_cast<std::int64_t>(
      std::erase_if(requests_.rows,
                    [&](const RequestRow& row) { return finished.has(row.custom_id); }) +
      std::erase_if(requests_.failures, [&](const RowFailure& failure) {
        return failure.code == kDuplicateCustomId ? finished.take_duplicate(failure.custom_id)
                                                  : finished.has(failure.custom_id);
      }));
}

JobScan TextJob::scan() const {
  JobScan scan;
  for (const RequestRow& row : requests_.rows) add_to_scan(row, scan);
  scan.bad_rows = static_cast<std::int64_t>(requests_.failures.size());
  scan.skipped_rows = counts_.skipped;
  return scan;
}

void TextJob::start(CompletionWriter& writer) {
  writer_ = &writer;
  for (const RowFailure& failure : requests_.failures) {
    writer.append(failure_record(failure));
    ++counts_.failed;
  }
}

stage::Next TextJob::next(stage::Request& request) {
  if (writer_ == nullptr) throw std::logic_error("TextJob::next before start");
  if (next_ == requests_.rows.size()) return stage::Next::no_more;
  const RequestRow& row = requests_.rows[next_];
  request = to_request(row, next_);
  answers_.emplace(next_, Answer(tokenizer_, row, options_.eos));
  ++next_;
  return stage::Next::request;
}

Answer& TextJob::answer(std::uint64_t id) {
  const auto found = answers_.find(id);
  if (found == answers_.end()) {
    throw std::logic_error(fmt::format("request {} is not under way", id));
  }
  return found->second;
}

/// Appends the finished answer, and lets go of all that the row took.
void TextJob::write(std::uint64_t id) {
  const Answer& finished = answer(id);
  writer_->append(answer_record(finished, options_.form));
  ++counts_.answered;
  counts_.prompt_tokens += static_cast<std::int64_t>(finished.row().prompt.size());
  counts_.completion_tokens += static_cast<std::int64_t>(finished.tokens().size());
  answers_.erase(id);
  requests_.rows[id] = RequestRow();
}

void TextJob::on_prompt_token(std::uint64_t id, std::int32_t, const stage::TokenResult& result) {
  answer(id).add_prompt_token(result);
}

bool TextJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  if (!answer(id).add(result)) return false;
  write(id);
  return true;
}

void TextJob::on_prompt_done(std::uint64_t id) {
  answer(id).finish_without_tokens();
  write(id);
}

void TextJob::on_failed(std::uint64_t id, const std::string& reason) {
  const RequestRow& row = answer(id).row();
  writer_->append(failure_record({row.line, row.custom_id, row.form, reason, "", "", true}));
  ++counts_.failed;
  answers_.erase(id);
  requests_.rows[id] = RequestRow();
}

}  // namespace sluice::launcher
