#include "launcher/jobs/row_feed.h"

#include <iterator>
#include <utility>

namespace sluice::launcher {
namespace {

constexpr std::size_t kMostRows = 1024;
constexpr std::size_t kMostTokens = 1U << 20;

std::size_t tokens_of(const JobRow& row) {
  const auto* request = std::get_if<RequestRow>(&row.row);
  return request == nullptr ? 0 : request->prompt.size();
}

}  // namespace

RowFeed::RowFeed(std::istream& in, const std::string& name, RequestParser& parser, RowSorter sorter,
                 bool patient)
    : reader_(in, name, parser), parser_(parser), sorter_(std::move(sorter)), patient_(patient) {
  counts_.failed = sorter_.failed();
  parser_.leave_out([this](const RequestRow& row) { return sorter_.is_answered(row); });
}

RowFeed::~RowFeed() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void RowFeed::start(stage::HeadLine& line) {
  line_ = &line;
  thread_ = std::thread([this] { read(); });
}

void RowFeed::read() noexcept {
  std::exception_ptr problem;
  try {
    read_rows();
  } catch (...) {
    problem = std::current_exception();
  }
  end(problem);
}

void RowFeed::read_rows() {
  while (auto parsed = reader_.next()) {
    if (!push(sorter_.sort(std::move(*parsed)))) return;
  }
}

bool RowFeed::push(std::optional<JobRow> row) {
  std::vector<std::string> said = parser_.take_warnings();
  for (std::string& sentence : sorter_.take_warnings()) said.push_back(std::move(sentence));
  std::unique_lock lock(mutex_);
  changed_.wait(
      lock, [this] { return stopping_ || (rows_.size() < kMostRows && tokens_ < kMostTokens); });
  if (stopping_) return false;
  std::move(said.begin(), said.end(), std::back_inserter(warnings_));
  counts_ = {sorter_.skipped(), sorter_.failed()};
  if (!row) return true;
  tokens_ += tokens_of(*row);
  rows_.push_back(std::move(*row));
  const bool rings = std::exchange(asked_, false);
  lock.unlock();
  changed_.notify_all();
  if (rings) line_->ring();
  return true;
}

void RowFeed::end(std::exception_ptr problem) {
  bool rings = false;
  {
    const std::lock_guard lock(mutex_);
    problem_ = std::move(problem);
    counts_ = {sorter_.skipped(), sorter_.failed()};
    ended_ = true;
    rings = std::exchange(asked_, false);
  }
  changed_.notify_all();
  if (rings) line_->ring();
}

stage::Next RowFeed::next(JobRow& row) {
  std::unique_lock lock(mutex_);
  if (patient_) changed_.wait(lock, [this] { return !rows_.empty() || ended_; });
  if (!rows_.empty()) {
    row = std::move(rows_.front());
    rows_.pop_front();
    tokens_ -= tokens_of(row);
    lock.unlock();
    changed_.notify_all();
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
  return counts_.skipped;
}

std::int64_t RowFeed::failed() const {
  const std::lock_guard lock(mutex_);
  return counts_.failed;
}

std::vector<std::string> RowFeed::take_warnings() {
  const std::lock_guard lock(mutex_);
  return std::exchange(warnings_, {});
}

}  // namespace sluice::launcher
