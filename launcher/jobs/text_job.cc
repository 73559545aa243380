#include "launcher/jobs/text_job.h"

#include <fmt/format.h>

#include <iostream>
#include <stdexcept>
#include <utility>

#include "launcher/jobs/journal_facts.h"

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

void TextJob::start(CompletionWriter& writer, int threads, Journal* journal) {
  writer_ = &writer;
  journal_ = journal;
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
    no_more_ = answer == stage::Next::no_more;
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
    const std::uint64_t id = next_id_++;
    request = to_request(good, id);
    const auto added =
        works_.try_emplace(id, tokenizer_, std::move(good), row.error_before, options_.eos).first;
    if (journal_ == nullptr || !restore(added->second, request)) return stage::Next::request;
    write(id);  // only its line was missing
  }
}

/// Gives the answer the tokens that the journal has of it. To the request they are prompt: it goes
/// on behind them. True: the answer is finished with them.
bool TextJob::restore(Work& begun, stage::Request& request) {
  const std::size_t prompt_results = request.scores_from > 0 ? request.prompt.size() - 1 : 0;
  const Journal::Start start = journal_->start(journal_key(begun.row), prompt_results);
  begun.number = start.number;
  const auto result_of = [](const ScoredToken& token) {
    return stage::TokenResult{token.token, token.logprob, token.top};
  };
  for (const ScoredToken& token : start.made.prompt) {
    begun.answer.add_prompt_token(result_of(token));
    request.scores_from = 0;
  }
  for (const ScoredToken& token : start.made.answer) {
    ++counts_.journal.restored_tokens;
    request.prompt.push_back(token.token);
    --request.max_tokens;
    if (begun.answer.add(result_of(token))) return true;
  }
  if (start.again) {
    counts_.journal.recomputed_tokens += static_cast<std::int64_t>(request.prompt.size());
  }
  return false;
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
  let_go(id);
}

/// The row's record is in the output.
void TextJob::let_go(std::uint64_t id) {
  if (journal_ != nullptr) journal_->done(work(id).number);
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
  Work& asked = work(id);
  // Without a token of the answer there is nothing to go on with.
  if (journal_ != nullptr && asked.row.max_tokens > 0) {
    journal_->add(asked.number, JournalToken::prompt, result);
  }
  asked.answer.add_prompt_token(result);
}

bool TextJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  Work& made = work(id);
  if (journal_ != nullptr) {
    const bool scored = made.row.wants_logprobs();
    journal_->add(made.number, scored ? JournalToken::scored : JournalToken::plain, result);
  }
  if (!made.answer.add(result)) return false;
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
  let_go(id);
}

}  // namespace sluice::launcher
