#include "launcher/serve/serve_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "launcher/jobs/journal_facts.h"

namespace sluice::launcher {
namespace {

/// Ids that a row has for its requests: more than it can have answers, or steps of a beam search.
constexpr std::uint64_t kIdsOfRow = std::uint64_t{1} << 24;

std::size_t tokens_of(const std::vector<RequestRow>& rows) {
  std::size_t tokens = 0;
  for (const RequestRow& row : rows) tokens += row.prompt.size();
  return tokens;
}

}  // namespace

void ServeJob::set_places(std::size_t places, std::int64_t tokens) {
  const std::lock_guard lock(mutex_);
  room_ = BatchRoom(places, tokens);
}

ServeJob::Admission ServeJob::submit(const std::shared_ptr<Exchange>& exchange,
                                     std::vector<RequestRow> rows, Urgency urgency) {
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Admission::draining;
    const bool live = urgency == Urgency::live;
    const std::size_t tokens = tokens_of(rows);
    if (live && (waiting_requests_ >= limits_.requests ||
                 (waiting_requests_ > 0 && waiting_tokens_ + tokens > limits_.tokens))) {
      return Admission::full;
    }
    (live ? waiting_requests_ : batch_requests_) += 1;
    if (live) waiting_tokens_ += tokens;
    Rows& own = exchanges_[exchange.get()];
    own.urgency = urgency;
    for (RequestRow& row : rows) {
      const std::uint64_t number = next_row_++;
      auto work = std::make_unique<RowWork>(tokenizer_, std::move(row), 0, eos_);
      work->first_id = number * kIdsOfRow;
      turns_[number] = {std::move(work), exchange, own.numbers.size(), urgency};
      own.numbers.push_back(number);
      (live ? live_ : batch_).waiting.push_back(number);
    }
    if (live) make_room();
  }
  line().ring();
  return Admission::taken;
}

void ServeJob::drop(const Exchange& exchange) {
  const std::lock_guard lock(mutex_);
  drop_locked(exchange);
}

void ServeJob::drop_locked(const Exchange& exchange) {
  const auto found = exchanges_.find(&exchange);
  if (found == exchanges_.end()) return;
  const Rows rows = std::move(found->second);
  exchanges_.erase(found);
  if (rows.urgency == Urgency::batch) {
    --batch_requests_;
  } else if (!rows.begun) {
    --waiting_requests_;
  }
  for (const std::uint64_t number : rows.numbers) drop_row(number);
}

void ServeJob::drop_row(std::uint64_t number) {
  Turn& turn = turns_.at(number);
  RowWork& work = *turn.work;
  const bool live = turn.urgency == Urgency::live;
  Queue& queue = live ? live_ : batch_;
  turn.exchange = nullptr;
  std::erase(queue.waiting, number);
  std::erase(queue.stepping, number);
  work.ended +=
      std::erase_if(again_, [number](std::uint64_t id) { return id / kIdsOfRow == number; });
  if (live && work.begun == 0) waiting_tokens_ -= work.row.prompt.size();
  work.failure = "the client has left";
  // Ids of requests that have ended are passed over.
  const std::size_t first = work.search ? work.step_begin : 0;
  for (std::size_t part = first; part < work.begun; ++part) line().cancel(work.first_id + part);
  if (!work.done()) return;
  if (!draining_) {
    for (const auto& kept : work.numbers) {
      if (kept) stale_.push_back(*kept);
    }
  }
  turns_.erase(number);
}

void ServeJob::drop_batches() {
  std::vector<const Exchange*> batches;
  for (const auto& [exchange, rows] : exchanges_) {
    if (rows.urgency == Urgency::batch) batches.push_back(exchange);
  }
  for (const Exchange* exchange : batches) drop_locked(*exchange);
}

void ServeJob::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    drop_batches();
  }
  line().ring();
}

void ServeJob::fail_all(const std::string& why) {
  const std::lock_guard lock(mutex_);
  drop_batches();
  while (!exchanges_.empty()) {
    const Rows& rows = exchanges_.begin()->second;
    const std::shared_ptr<Exchange> exchange = turns_.at(rows.numbers.front()).exchange;
    exchange->on_failed(why);
    drop_locked(*exchange);
  }
}

ServeJob::Load ServeJob::load() const {
  const std::lock_guard lock(mutex_);
  return {waiting_requests_, exchanges_.size() - waiting_requests_ - batch_requests_,
          batch_requests_};
}

bool ServeJob::may_grow() const {
  return std::ranges::any_of(turns_,
                             [](const auto& one) { return one.second.work->search != nullptr; });
}

void ServeJob::begin(Turn& turn) {
  Rows& rows = exchanges_.at(turn.exchange.get());
  const bool live = turn.urgency == Urgency::live;
  if (live) waiting_tokens_ -= turn.work->row.prompt.size();
  if (std::exchange(rows.begun, true)) return;
  if (live) --waiting_requests_;
  turn.exchange->on_begin();
}

stage::Next ServeJob::next(stage::Request& request) {
  const std::lock_guard lock(mutex_);
  for (const std::uint32_t number : std::exchange(stale_, {})) journal_->done(number);
  if (!live_.first().empty()) {
    request = hand_out(live_.first()).value();
    make_room();
    return stage::Next::request;
  }
  if (next_of_batch(request)) return stage::Next::request;
  return draining_ && !may_grow() ? stage::Next::no_more : stage::Next::none_now;
}

/// The next request of the first row. Nothing: the journal has all of its answer.
std::optional<stage::Request> ServeJob::hand_out(std::deque<std::uint64_t>& queue) {
  Turn& turn = turns_.at(queue.front());
  RowWork& work = *turn.work;
  if (work.begun == 0) begin(turn);
  const std::size_t part = work.begun++;
  if (work.all_begun()) queue.pop_front();
  const std::uint64_t id = work.first_id + part;
  const auto kind = turn.urgency == Urgency::live ? BatchRoom::Kind::live
                    : work.search                 ? BatchRoom::Kind::pinned
                                                  : BatchRoom::Kind::batch;
  if (kind == BatchRoom::Kind::batch) {
    if (!restore(work, part)) return go_on(id);
    turn.exchange->on_token(work, turn.place, part);
    end_part(id);
    return {};
  }
  room_.begin(id, longest_request(work.row), kind);
  return work.search ? work.search->request(part - work.step_begin, id)
                     : to_request(work.row, id, part);
}

/// Gives the answer the tokens that the journal has of it. True: it is finished with them. Scores
/// of prompts are not kept: they are made in the first pass.
bool ServeJob::restore(RowWork& work, std::size_t part) {
  const bool scores_prompt = work.row.echo && work.row.wants_logprobs();
  if (journal_ == nullptr || work.row.max_tokens == 0 || scores_prompt) return false;
  const Journal::Start start = journal_->start(journal_key(work.row, part), 0);
  work.numbers[part] = start.number;
  for (const ScoredToken& token : start.made.answer) {
    if (work.answers[part].add({token.token, token.logprob, token.top})) return true;
  }
  return false;
}

/// The row needs the journal no more.
void ServeJob::forget(const RowWork& work) {
  for (const auto& number : work.numbers) {
    if (journal_ != nullptr && number) journal_->done(*number);
  }
}

bool ServeJob::next_of_batch(stage::Request& request) {
  if (!again_.empty()) {
    const std::uint64_t id = again_.front();
    if (!room_.has_room(longest_request(turn_of(id).work->row))) return false;
    again_.pop_front();
    request = go_on(id);
    return true;
  }
  for (;;) {
    std::deque<std::uint64_t>& queue = batch_.first();
    if (queue.empty() || !room_.has_room(longest_request(turns_.at(queue.front()).work->row))) {
      return false;
    }
    if (auto handed = hand_out(queue)) {
      request = std::move(*handed);
      return true;
    }
  }
}

/// A request that stepped back, behind the tokens that its answer has. They are prompt to it, and
/// chance goes by seed and position, so the answer is the same.
stage::Request ServeJob::go_on(std::uint64_t id) {
  RowWork& work = *turn_of(id).work;
  const std::size_t part = id % kIdsOfRow;
  room_.begin(id, longest_request(work.row), BatchRoom::Kind::batch);
  stage::Request request = to_request(work.row, id, part);
  Answer& answer = work.answers[part];
  if (answer.tokens().empty()) {
    answer = Answer(tokenizer_, work.row, eos_);
    return request;
  }
  request.scores_from = 0;
  request.max_tokens -= static_cast<std::int32_t>(answer.tokens().size());
  request.prompt.insert(request.prompt.end(), answer.tokens().begin(), answer.tokens().end());
  return request;
}

/// Requests of batches step back for the live requests that wait.
void ServeJob::make_room() {
  const std::size_t waiting = live_.waiting.size() + live_.stepping.size();
  for (const std::uint64_t id : room_.step_back(waiting)) {
    stepping_back_.insert(id);
    line().cancel(id);
  }
}

ServeJob::Turn& ServeJob::turn_of(std::uint64_t id) {
  const auto found = turns_.find(id / kIdsOfRow);
  if (found == turns_.end()) {
    throw std::logic_error(fmt::format("request {} is not under way", id));
  }
  return found->second;
}

void ServeJob::on_prompt_token(std::uint64_t id, std::int32_t, const stage::TokenResult& result) {
  const std::lock_guard lock(mutex_);
  turn_of(id).work->answers[id % kIdsOfRow].add_prompt_token(result);
}

bool ServeJob::on_token(std::uint64_t id, const stage::TokenResult& result) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t number = id / kIdsOfRow;
  const std::size_t part = id % kIdsOfRow;
  Turn& turn = turn_of(id);
  RowWork& work = *turn.work;
  const bool wanted = work.failure.empty();
  if (wanted && work.search) {
    if (work.search->take(part - work.step_begin, result)) {
      work.step_begin = work.known;
      work.known += work.search->requests();
      if (work.search->requests() > 0) {
        (turn.urgency == Urgency::live ? live_ : batch_).stepping.push_back(number);
      } else {
        work.answers = work.search->answers();
      }
    }
  } else if (wanted) {
    if (journal_ != nullptr && work.numbers[part]) {
      const bool scored = work.row.needs_logprobs();
      journal_->add(*work.numbers[part], scored ? JournalToken::scored : JournalToken::plain,
                    result);
    }
    const bool finished = work.answers[part].add(result);
    turn.exchange->on_token(work, turn.place, part);
    if (!finished) return false;
  }
  end_part(id);
  return true;
}

void ServeJob::on_embedding(std::uint64_t id, std::span<const float> values) {
  const std::lock_guard lock(mutex_);
  turn_of(id).work->answers[id % kIdsOfRow].set_embedding(values);
}

void ServeJob::on_prompt_done(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  Turn& turn = turn_of(id);
  const std::size_t part = id % kIdsOfRow;
  if (turn.work->failure.empty()) {
    turn.work->answers[part].finish_without_tokens();
    turn.exchange->on_token(*turn.work, turn.place, part);
  }
  end_part(id);
}

void ServeJob::on_failed(std::uint64_t id, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (const std::shared_ptr<Exchange> exchange = turn_of(id).exchange) {
    exchange->on_failed(reason);
    drop_locked(*exchange);
  }
  end_part(id);
}

void ServeJob::on_cancelled(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  if (stepping_back_.erase(id) > 0 && turn_of(id).work->failure.empty()) {
    again_.push_back(id);
    return;
  }
  end_part(id);
}

/// One of the row's requests has ended.
void ServeJob::end_part(std::uint64_t id) {
  room_.end(id);
  stepping_back_.erase(id);
  const std::uint64_t number = id / kIdsOfRow;
  const auto found = turns_.find(number);
  ++found->second.work->ended;
  if (!found->second.work->done()) return;
  Turn turn = std::move(found->second);
  turns_.erase(found);
  if (turn.exchange || !draining_) forget(*turn.work);  // else for the next run
  if (turn.exchange) end_row(number, std::move(turn));
}

void ServeJob::end_row(std::uint64_t number, Turn turn) {
  const auto found = exchanges_.find(turn.exchange.get());
  std::erase(found->second.numbers, number);
  if (found->second.numbers.empty()) {
    if (found->second.urgency == Urgency::batch) --batch_requests_;
    exchanges_.erase(found);
  }
  turn.exchange->on_row_done(turn.place, std::move(turn.work));
}

}  // namespace sluice::launcher
