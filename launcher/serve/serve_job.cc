#include "launcher/serve/serve_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

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

ServeJob::Admission ServeJob::submit(const std::shared_ptr<Exchange>& exchange,
                                     std::vector<RequestRow> rows) {
  {
    const std::lock_guard lock(mutex_);
    if (draining_) return Admission::draining;
    const std::size_t tokens = tokens_of(rows);
    if (waiting_requests_ >= limits_.requests ||
        (waiting_requests_ > 0 && waiting_tokens_ + tokens > limits_.tokens)) {
      return Admission::full;
    }
    ++waiting_requests_;
    waiting_tokens_ += tokens;
    Rows& own = exchanges_[exchange.get()];
    for (RequestRow& row : rows) {
      const std::uint64_t number = next_row_++;
      auto work = std::make_unique<RowWork>(tokenizer_, std::move(row), 0, eos_);
      work->first_id = number * kIdsOfRow;
      turns_[number] = {std::move(work), exchange, own.numbers.size()};
      own.numbers.push_back(number);
      waiting_.push_back(number);
    }
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
  if (!rows.begun) --waiting_requests_;
  for (const std::uint64_t number : rows.numbers) drop_row(number);
}

void ServeJob::drop_row(std::uint64_t number) {
  Turn& turn = turns_.at(number);
  RowWork& work = *turn.work;
  turn.exchange = nullptr;
  std::erase(waiting_, number);
  std::erase(stepping_, number);
  if (work.begun == 0) waiting_tokens_ -= work.row.prompt.size();
  work.failure = "the client has left";
  // Ids of requests that have ended are passed over.
  const std::size_t first = work.search ? work.step_begin : 0;
  for (std::size_t part = first; part < work.begun; ++part) line().cancel(work.first_id + part);
  if (work.done()) turns_.erase(number);
}

void ServeJob::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  line().ring();
}

void ServeJob::fail_all(const std::string& why) {
  const std::lock_guard lock(mutex_);
  while (!exchanges_.empty()) {
    const Rows& rows = exchanges_.begin()->second;
    const std::shared_ptr<Exchange> exchange = turns_.at(rows.numbers.front()).exchange;
    exchange->on_failed(why);
    drop_locked(*exchange);
  }
}

ServeJob::Load ServeJob::load() const {
  const std::lock_guard lock(mutex_);
  return {waiting_requests_, exchanges_.size() - waiting_requests_};
}

bool ServeJob::may_grow() const {
  return std::ranges::any_of(turns_,
                             [](const auto& one) { return one.second.work->search != nullptr; });
}

void ServeJob::begin(Turn& turn) {
  waiting_tokens_ -= turn.work->row.prompt.size();
  Rows& rows = exchanges_.at(turn.exchange.get());
  if (std::exchange(rows.begun, true)) return;
  --waiting_requests_;
  turn.exchange->on_begin();
}

stage::Next ServeJob::next(stage::Request& request) {
  const std::lock_guard lock(mutex_);
  std::deque<std::uint64_t>& queue = stepping_.empty() ? waiting_ : stepping_;
  if (queue.empty()) {
    return draining_ && !may_grow() ? stage::Next::no_more : stage::Next::none_now;
  }
  Turn& turn = turns_.at(queue.front());
  RowWork& work = *turn.work;
  if (work.begun == 0) begin(turn);
  const std::size_t part = work.begun++;
  if (work.all_begun()) queue.pop_front();
  const std::uint64_t id = work.first_id + part;
  request = work.search ? work.search->request(part - work.step_begin, id)
                        : to_request(work.row, id, part);
  return stage::Next::request;
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
        stepping_.push_back(number);
      } else {
        work.answers = work.search->answers();
      }
    }
  } else if (wanted) {
    const bool finished = work.answers[part].add(result);
    turn.exchange->on_token(work, turn.place, part);
    if (!finished) return false;
  }
  end_part(number);
  return true;
}

void ServeJob::on_prompt_done(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  Turn& turn = turn_of(id);
  const std::size_t part = id % kIdsOfRow;
  if (turn.work->failure.empty()) {
    turn.work->answers[part].finish_without_tokens();
    turn.exchange->on_token(*turn.work, turn.place, part);
  }
  end_part(id / kIdsOfRow);
}

void ServeJob::on_failed(std::uint64_t id, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (const std::shared_ptr<Exchange> exchange = turn_of(id).exchange) {
    exchange->on_failed(reason);
    drop_locked(*exchange);
  }
  end_part(id / kIdsOfRow);
}

void ServeJob::on_cancelled(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  end_part(id / kIdsOfRow);
}

/// One of the row's requests has ended.
void ServeJob::end_part(std::uint64_t number) {
  const auto found = turns_.find(number);
  ++found->second.work->ended;
  if (!found->second.work->done()) return;
  Turn turn = std::move(found->second);
  turns_.erase(found);
  if (turn.exchange) end_row(number, std::move(turn));
}

void ServeJob::end_row(std::uint64_t number, Turn turn) {
  const auto found = exchanges_.find(turn.exchange.get());
  std::erase(found->second.numbers, number);
  if (found->second.numbers.empty()) exchanges_.erase(found);
  turn.exchange->on_row_done(turn.place, std::move(turn.work));
}

}  // namespace sluice::launcher
