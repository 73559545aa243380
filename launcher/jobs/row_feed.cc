#include "launcher/jobs/row_feed.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "launcher/jobs/request_reader.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostRows = 1024;
constexpr std::size_t kMostTokens = 1U << 20;
constexpr std::size_t kMostBytes = 4U << 20;  // or one line
constexpr int kMostThreads = 4;

/// Fields that are kept take memory as tokens do.
std::size_t tokens_of(const ParsedRow& row) {
  const auto* request = std::get_if<RequestRow>(&row);
  if (request == nullptr) return 0;
  return request->prompt.size() + request->kept_fields.size() / sizeof(std::int32_t);
}

}  // namespace

int parsing_threads(int cores) { return std::clamp(cores / 2, 1, kMostThreads); }

RowFeed::RowFeed(std::istream& in, const std::string& name, RequestParser& parser, RowSorter sorter,
                 bool patient, Shard shard)
    : lines_(in, name, shard), parser_(parser), patient_(patient), sorter_(std::move(sorter)) {}

RowFeed::~RowFeed() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  room_.notify_all();
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void RowFeed::start(stage::HeadLine& line, int threads) {
  line_ = &line;
  threads_.emplace_back([this] { read(); });
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { parse(); });
}

void RowFeed::read() noexcept {
  std::exception_ptr problem;
  try {
    read_lines();
  } catch (...) {
    problem = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  if (!ended_) problem_ = std::move(problem);
  reading_ = false;
  settle();
  work_.notify_all();
}

bool RowFeed::has_room() const {
  return works_.size() + rows_.size() < kMostRows && tokens_ < kMostTokens && bytes_ < kMostBytes;
}

void RowFeed::read_lines() {
  std::unique_lock lock(mutex_);
  for (;;) {
    room_.wait(lock, [this] { return stopping_ || ended_ || has_room(); });
    if (stopping_ || ended_) return;
    lock.unlock();
    Work work;
    do {
      if (!lines_.next(work.line)) return;
    } while (work.line.is_foreign);
    lock.lock();
    bytes_ += work.line.text.size();
    works_.push_back(std::move(work));
    work_.notify_one();
  }
}

void RowFeed::parse() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !reading_ || begun_ < works_.size(); });
    if (stopping_ || ended_ || begun_ == works_.size()) return;
    Work& work = works_[begun_++];  // stays where it is until it is done
    lock.unlock();
    make_draft(work);
    lock.lock();
    if (stopping_) return;
    work.done = true;
    tokens_ += work.tokens;
    settle();
  }
}

void RowFeed::make_draft(Work& work) noexcept {
  const auto is_answered = [this](const RequestRow& row) {
    const std::lock_guard lock(mutex_);
    return sorter_.is_answered(row);
  };
  try {
    work.draft = draft(work.line, parser_, is_answered);
    work.tokens = tokens_of(work.draft.row);
  } catch (...) {
    work.problem = std::current_exception();
  }
}

/// Takes the lines that are done and have their turn out of works_. Holds the mutex.
void RowFeed::settle() {
  const std::size_t before = rows_.size();
  while (!ended_ && !works_.empty() && works_.front().done) {
    try {
      settle(works_.front());
    } catch (...) {
      works_.front().problem = std::current_exception();
    }
    if (works_.front().problem) {
      problem_ = works_.front().problem;
      ended_ = true;
      break;  // threads may have the lines behind it in hand
    }
    bytes_ -= works_.front().line.text.size();
    works_.pop_front();
    --begun_;
  }
  if (!reading_ && works_.empty()) ended_ = true;
  room_.notify_one();
  if (rows_.size() > before || ended_) wake();
}

void RowFeed::settle(Work& work) {
  tokens_ -= std::exchange(work.tokens, 0);
  if (work.problem) return;
  // The answer that the output has may be that of an earlier row of the same name.
  if (work.draft.left_out && !sorter_.is_answered(std::get<RequestRow>(work.draft.row))) {
    work.draft = draft(work.line, parser_);
  }
  std::optional<JobRow> row = sorter_.sort(parser_.settle(std::move(work.draft)));
  if (!row) return;
  tokens_ += tokens_of(row->row);
  rows_.push_back(std::move(*row));
}

void RowFeed::wake() {
  ready_.notify_one();
  if (std::exchange(asked_, false)) line_->ring();
}

stage::Next RowFeed::next(JobRow& row) {
  std::unique_lock lock(mutex_);
  if (patient_) ready_.wait(lock, [this] { return !rows_.empty() || ended_; });
  if (!rows_.empty()) {
    row = std::move(rows_.front());
    rows_.pop_front();
    tokens_ -= tokens_of(row.row);
    room_.notify_one();
    return stage::Next::request;
  }
  if (!ended_) {
    asked_ = true;
    return stage::Next::none_now;
  }
  if (problem_) std::rethrow_exception(std::exchange(problem_, nullptr));
  return stage::Next::no_more;
}

std::int64_t RowFeed::skipped() const {
  const std::lock_guard lock(mutex_);
  return sorter_.skipped();
}

std::int64_t RowFeed::failed() const {
  const std::lock_guard lock(mutex_);
  return sorter_.failed();
}

std::vector<std::string> RowFeed::take_warnings() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> said = parser_.take_warnings();
  std::ranges::move(sorter_.take_warnings(), std::back_inserter(said));
  return said;
}

}  // namespace sluice::launcher
