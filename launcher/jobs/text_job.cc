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

/// The next row that can be answered begins. Failures on the way are written.
stage::Next TextJob::take_row(RowWork*& begun) {
  if (!stepping_.empty()) {
    begun = stepping_.front();
    stepping_.pop_front();
    return stage::Next::request;
  }
  const stage::Next ended = works_.may_grow() ? stage::Next::none_now : stage::Next::no_more;
  for (JobRow row; !no_more_;) {
    const stage::Next answer = feed_.next(row);
    for (const std::string& warning : feed_.take_warnings()) {
      std::cerr << "sluice: " + warning + '\n';
    }
    no_more_ = answer == stage::Next::no_more;
    if (answer != stage::Next::request) return no_more_ ? ended : answer;
    if (const auto* failure = std::get_if<RowFailure>(&row.row)) {
      write_failure(*failure, row.error_before);
      continue;
    }
    auto& good = std::get<RequestRow>(row.row);
    if (!is_too_large(good)) {
      begun = &works_.begin(tokenizer_, std::move(good), row.error_before, options_.eos);
      return answer;
    }
    write_failure(failure_of(good, fmt::format("line {} has more tokens or rules than any had when "
                                               "the run began, or a grammar or embed where none "
                                               "had one; run it again with --resume",
                                               good.line)),
                  row.error_before);
  }
  return ended;
}

stage::Next TextJob::next(stage::Request& request) {
  if (writer_ == nullptr) throw std::logic_error("TextJob::next before start");
  for (;;) {
    if (open_ == nullptr) {
      const stage::Next answer = take_row(open_);
      if (answer != stage::Next::request) return answer;
    }
    RowWork& work = *open_;
    const std::size_t part = work.begun++;
    if (work.all_begun()) open_ = nullptr;
    if (work.search) {
      request = work.search->request(part - work.step_begin, work.first_id + part);
      return stage::Next::request;
    }
    request = to_request(work.row, work.first_id + part, part);
    if (!restore(work, part, request)) return stage::Next::request;
    end_part(work);  // the record was missing, or the row's other requests
  }
}

/// Gives the answer the tokens that the journal has of it. To the request they are prompt: it goes
/// on behind them. True: the answer is finished with them.
bool TextJob::restore(RowWork& work, std::size_t part, stage::Request& request) {
  // Without a token of an answer there is nothing to go on with.
  if (journal_ == nullptr || request.max_tokens == 0) return false;
  const std::size_t prompt_results = request.scores_from > 0 ? request.prompt.size() - 1 : 0;
  const Journal::Start start = journal_->start(journal_key(work.row, part), prompt_results);
  work.numbers[part] = start.number;
  Answer& answer = work.answers[part];
  const auto result_of = [](const ScoredToken& token) {
    return stage::TokenResult{token.token, token.logprob, token.top};
  };
  for (const ScoredToken& token : start.made.prompt) {
    answer.add_prompt_token(result_of(token));
    request.scores_from = 0;
  }
  for (const ScoredToken& token : start.made.answer) {
    ++counts_.journal.restored_tokens;
    request.prompt.push_back(token.token);
    --request.max_tokens;
    if (answer.add(result_of(token))) return true;
  }
  if (start.again) {
    counts_.journal.recomputed_tokens += static_cast<std::int64_t>(request.prompt.size());
  }
  return false;
}

bool TextJob::is_too_large(const RequestRow& row) const {
  const auto rule_words = static_cast<std::int32_t>(encode(row.rules).size());
  return (options_.longest_sequence > 0 && longest_request(row) > options_.longest_sequence) ||
         rule_words > options_.most_rule_words || (row.grammar && !options_.grammars) ||
         (row.embed != stage::Embed::none && !options_.features);
}

/// A token of a beam search. The answers are there when it is done.
bool TextJob::add_to_search(RowWork& work, std::size_t part, const stage::TokenResult& result) {
  BeamWork& search = *work.search;
  if (work.failure.empty() && search.take(part - work.step_begin, result)) {
    work.step_begin = work.known;
    work.known += search.requests();
    if (search.requests() > 0) {
      stepping_.push_back(&work);
    } else {
      work.answers = search.answers();
    }
  }
  end_part(work);
  return true;
}

/// One of the row's requests has ended.
void TextJob::end_part(RowWork& work) {
  ++work.ended;
  if (!work.done()) return;
  if (work.failure.empty()) {
    write(work);
  } else {
    write_failure(failure_of(work.row, work.failure), work.error_before);
  }
  for (const auto& number : work.numbers) {
    if (journal_ != nullptr && number) journal_->done(*number);
  }
  works_.erase(work);
}

void TextJob::write(RowWork& work) {
  writer_->append(answer_record(work.answers, options_.form));
  ++counts_.answered;
  ++counts_.written;
  counts_.prompt_tokens += static_cast<std::int64_t>(work.row.prompt.size());
  for (const Answer& answer : work.answers) {
    counts_.completion_tokens += static_cast<std::int64_t>(answer.tokens().size());
  }
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
  const auto [work, part] = works_.part_of(id);
  if (journal_ != nullptr && work.numbers[part]) {
    journal_->add(*work.numbers[part], JournalToken::prompt, result);
  }
  work.answers[part].add_prompt_token(result);
}

bool TextJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  const auto [work, part] = works_.part_of(id);
  if (work.search) return add_to_search(work, part, result);
  if (journal_ != nullptr) {
    const bool scored = work.row.needs_logprobs();
    journal_->add(work.numbers[part].value(), scored ? JournalToken::scored : JournalToken::plain,
                  result);
  }
  if (!work.answers[part].add(result)) return false;
  end_part(work);
  return true;
}

void TextJob::on_embedding(std::uint64_t id, std::span<const float> values) {
  const auto [work, part] = works_.part_of(id);
  work.answers[part].set_embedding(values);
}

void TextJob::on_prompt_done(std::uint64_t id) {
  const auto [work, part] = works_.part_of(id);
  work.answers[part].finish_without_tokens();
  end_part(work);
}

void TextJob::on_failed(std::uint64_t id, const std::string& reason) {
  RowWork& work = works_.part_of(id).work;
  work.failure = reason;
  if (open_ == &work) open_ = nullptr;
  std::erase(stepping_, &work);
  end_part(work);
}

}  // namespace sluice::launcher
