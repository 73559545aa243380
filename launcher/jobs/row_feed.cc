#include "launcher/jobs/row_feed.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "launcher/jobs/request_reader.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostRows = 1024;
constexpr std::size_t kMostTokens = 1U << 20;
constexpr std::size_t kMostBytes = 4U << 20;  // or one line
constexpr int kMostThreads = 4;
// Of a work.
constexpr std::size_t kWorkLines = 64;
constexpr std::size_t kWorkBytes = 1U << 16;  // or one line

/// Fields that are kept take memory as tokens do.
std::size_t tokens_of(const ParsedRow& row) {
  const auto* request = std::get_if<RequestRow>(&row);
  if (request == nullptr) return 0;
  std::size_t tokens = request->prompt.size();
  for (const Choice& choice : request->choices) tokens += choice.tokens.size();
  return tokens + request->kept_fields.size() / sizeof(std::int32_t);
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
  return lines_in_works_ + rows_.size() < kMostRows && tokens_ < kMostTokens && bytes_ < kMostBytes;
}

void RowFeed::read_lines() {
  std::unique_lock lock(mutex_);
  for (bool more = true; more;) {
    room_.wait(lock, [this] { return stopping_ || ended_ || has_room(); });
    if (stopping_ || ended_) return;
    lock.unlock();
    Work work;
    std::exception_ptr problem;
    try {
      more = read_work(work);
    } catch (...) {  // after the lines before it
      problem = std::current_exception();
    }
    lock.lock();
    if (!work.items.empty()) {
      lines_in_works_ += work.items.size();
      bytes_ += work.bytes;
      works_.push_back(std::move(work));
      work_.notify_one();
    }
    if (problem) std::rethrow_exception(problem);
  }
}

/// Of a pipe one line: the next one may be long in coming. Returns false at the end.
bool RowFeed::read_work(Work& work) {
  const std::size_t most = patient_ ? kWorkLines : 1;
  while (work.items.size() < most && work.bytes < kWorkBytes) {
    Item item;
    do {
      if (!lines_.next(item.line)) return false;
    } while (item.line.is_foreign);
    work.bytes += item.line.text.size();
    work.items.push_back(std::move(item));
  }
  return true;
}

void RowFeed::parse() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stopping_ || !reading_ || begun_ < works_.size(); });
    if (stopping_ || ended_ || begun_ == works_.size()) return;
    Work& work = works_[begun_++];  // stays where it is until it is done
    lock.unlock();
    make_drafts(work);
    lock.lock();
    if (stopping_) return;
    work.done = true;
    for (const Item& item : work.items) tokens_ += item.tokens;
    settle();
  }
}

void RowFeed::make_drafts(Work& work) noexcept {
  const auto is_answered = [this](const RequestRow& row) {
    const std::lock_guard lock(mutex_);
    return sorter_.is_answered(row);
  };
  try {
    // A resumed job has millions of rows that are answered, most of which are told by their name.
    std::vector<std::optional<RowDraft>> named(work.items.size());
    for (std::size_t i = 0; i < work.items.size(); ++i) named[i] = name_alone(work.items[i].line);
    std::unique_lock lock(mutex_);
    for (std::optional<RowDraft>& one : named) {
      if (one && !sorter_.is_answered(std::get<RequestRow>(one->row))) one.reset();
    }
    lock.unlock();
    for (std::size_t i = 0; i < work.items.size(); ++i) {
      Item& item = work.items[i];
      try {
        item.draft = named[i] ? std::move(*named[i]) : draft(item.line, parser_, is_answered);
        item.tokens = tokens_of(item.draft.row);
      } catch (...) {
        item.problem = std::current_exception();
      }
    }
  } catch (...) {
    work.items.front().problem = std::current_exception();
  }
}

/// Takes the lines that are done and have their turn out of works_. Holds the mutex.
void RowFeed::settle() {
  const std::size_t before = rows_.size();
  while (!ended_ && !works_.empty() && works_.front().done) {
    if (!settle(works_.front())) {
      ended_ = true;
      break;  // threads may have the lines behind it in hand
    }
    lines_in_works_ -= works_.front().items.size();
    bytes_ -= works_.front().bytes;
    works_.pop_front();
    --begun_;
  }
  if (!reading_ && works_.empty()) ended_ = true;
  room_.notify_one();
  if (rows_.size() > before || ended_) wake();
}

/// Returns false at a line that could not be read; problem_ says why.
bool RowFeed::settle(Work& work) {
  for (Item& item : work.items) {
    try {
      settle(item);
    } catch (...) {
      item.problem = std::current_exception();
    }
    if (!item.problem) continue;
    problem_ = item.problem;
    return false;
  }
  return true;
}

void RowFeed::settle(Item& item) {
  tokens_ -= std::exchange(item.tokens, 0);
  if (item.problem) return;
  // The answer that the output has may be that of an earlier row of the same name.
  if (item.draft.left_out && !sorter_.is_answered(std::get<RequestRow>(item.draft.row))) {
    item.draft = draft(item.line, parser_);
  }
  std::optional<JobRow> row = sorter_.sort(parser_.settle(std::move(item.draft)));
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
