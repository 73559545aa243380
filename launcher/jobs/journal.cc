#include "launcher/jobs/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <optional>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

using Clock = std::chrono::steady_clock;

/// Of an entry that is not a token: its letter and numbers.
constexpr std::size_t kChooseBytes = 1 + sizeof(std::uint32_t);
constexpr std::size_t kStartBytes = kChooseBytes + sizeof(JournalKey);

std::string quoted(const std::string& value) {
  return value.empty() ? std::string("none") : fmt::format("'{}'", value);
}

}  // namespace

std::filesystem::path Journal::path_of(const std::filesystem::path& output) {
  std::filesystem::path path = output;
  return path += ".journal";
}

Journal::Journal(JournalOptions options, Existing existing)
    : options_(std::move(options)), file_(options_.path) {
  read(existing);
}

Journal::~Journal() {
  stop();
  if (began_) write();
}

void Journal::read(Existing existing) {
  const std::string bytes = file_.read();
  std::optional<JournalContent> content = read_journal(bytes, options_.vocabulary);
  if (!content) {
    throw InputError(fmt::format("{} is no journal of sluice; move it away, or name another output",
                                 options_.path.string()));
  }
  if (existing == Existing::overwrite) return;
  std::int64_t tokens = 0;
  for (const JournalRow& row : content->rows) tokens += row.tokens;
  if (existing == Existing::refuse) {
    if (tokens == 0) return;
    throw ConfigError(
        fmt::format("the journal {} has {} tokens of answers that an earlier run was making; go on "
                    "with them by --resume, or drop them by --overwrite",
                    options_.path.string(), tokens));
  }
  if (!content->facts.empty()) check_facts(content->facts, content->rows.size());
  if (content->bytes < bytes.size()) {
    damage_ =
        fmt::format("{}: a record is cut off or damaged at byte {}; its last {} bytes are not used",
                    options_.path.string(), content->bytes, bytes.size() - content->bytes);
  }
  for (JournalRow& row : content->rows) {
    const std::uint32_t number = next_number_++;
    row_bytes_ += kStartBytes + row.entries.size();
    waiting_.emplace(row.key, number);
    rows_.emplace(number, std::move(row));
  }
}

void Journal::check_facts(const std::vector<JournalFact>& facts, std::size_t rows) const {
  for (const JournalFact& ours : options_.facts) {
    const auto theirs = std::ranges::find(facts, ours.name, &JournalFact::name);
    // Of a pipe there was no name. Its rows are known by their digests.
    if (theirs == facts.end() && ours.name == "input") continue;
    const std::string before = theirs == facts.end() ? std::string() : theirs->value;
    if (before == ours.value) continue;
    throw ConfigError(fmt::format(
        "the journal {} was written with another {}: {}, now {}; run it again as it was, or remove "
        "the journal, and the {} answers it has begun are made anew",
        options_.path.string(), ours.name, quoted(before), quoted(ours.value), rows));
  }
}

void Journal::forget(const std::function<bool(std::uint64_t name)>& is_answered) {
  std::erase_if(waiting_, [&](const auto& one) {
    const auto& [key, number] = one;
    if (!is_answered(key.name)) return false;
    done(number);
    return true;
  });
}

std::int64_t Journal::unused_tokens() const {
  std::int64_t tokens = 0;
  for (const auto& [key, number] : waiting_) tokens += rows_.at(number).tokens;
  return tokens;
}

void Journal::begin(std::function<void()> sync_output) {
  if (options_.seconds <= 0) return;
  sync_output_ = std::move(sync_output);
  began_ = true;
  make_records_anew();
  write();
  if (!off_) thread_ = std::thread([this] { work(); });
}

/// Holds the mutex, or is the only thread.
void Journal::make_records_anew() {
  records_.begin(options_.facts);
  for (const auto& [number, row] : rows_) {
    records_.start(number, row.key);
    if (!row.entries.empty()) records_.add(number, row.entries);
  }
  file_bytes_ = row_bytes_;
  anew_ = true;
}

Journal::Start Journal::start(const JournalKey& key, std::size_t prompt_results) {
  Start started;
  if (const auto found = waiting_.find(key); found != waiting_.end()) {
    started.again = true;
    started.number = found->second;
    waiting_.erase(found);
    started.made = decode_tokens(rows_.at(started.number).entries);
    const bool usable = started.made.answer.empty() ? started.made.prompt.empty()
                                                    : started.made.prompt.size() == prompt_results;
    if (usable) return started;
    done(started.number);
    started.made = {};
  }
  started.number = next_number_++;
  if (!writes()) return started;
  rows_.emplace(started.number, JournalRow{key, {}, 0});
  row_bytes_ += kStartBytes;
  file_bytes_ += kStartBytes;
  const std::lock_guard lock(mutex_);
  if (records_.empty()) wake_.notify_one();
  records_.start(started.number, key);
  return started;
}

void Journal::add(std::uint32_t number, JournalToken kind, const stage::TokenResult& result) {
  if (!writes()) return;
  entry_.clear();
  encode_token(kind, result, entry_);
  JournalRow& row = rows_.at(number);
  row.entries += entry_;
  row_bytes_ += entry_.size();
  file_bytes_ += entry_.size() + kChooseBytes;
  const bool too_large = file_bytes_ > std::max(options_.slack_bytes, 4 * row_bytes_);
  const std::lock_guard lock(mutex_);
  if (records_.empty()) wake_.notify_one();
  if (too_large) {
    make_records_anew();
  } else {
    records_.add(number, entry_);
  }
}

void Journal::done(std::uint32_t number) {
  const auto found = rows_.find(number);
  if (found == rows_.end()) return;
  row_bytes_ -= kStartBytes + found->second.entries.size();
  rows_.erase(found);
}

/// Sleeps while there is nothing to write. A token that comes after a pause is written at once,
/// others when the time is over that tokens may wait.
void Journal::work() {
  const auto pause =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.seconds));
  Clock::time_point write_at = Clock::now();
  Clock::time_point sync_at = write_at;
  bool synced = true;  // all that was written is on the disk
  std::unique_lock lock(mutex_);
  const auto is_wanted = [this] { return stopping_ || !records_.empty(); };
  while (!off_) {
    if (synced) {
      wake_.wait(lock, is_wanted);
    } else {
      wake_.wait_until(lock, sync_at, is_wanted);
    }
    if (!records_.empty()) wake_.wait_until(lock, write_at, [this] { return stopping_; });
    if (stopping_) return;
    const bool writing = !records_.empty();
    const bool syncing = !synced && Clock::now() >= sync_at;
    lock.unlock();
    if (writing) write();
    if (syncing) with_file([this] { file_.sync(); });
    lock.lock();
    if (writing) write_at = Clock::now() + pause;
    if (syncing) {
      synced = true;
    } else if (writing && synced) {
      synced = false;
      sync_at = Clock::now() + kSyncEvery;
    }
  }
}

/// Runs something over the file. If it fails there is no journal from here on.
template <class Call>
void Journal::with_file(const Call& call) {
  const std::lock_guard lock(file_mutex_);
  if (off_) return;
  try {
    call();
  } catch (const std::exception& error) {
    off_ = true;
    std::cerr << fmt::format(
        "sluice: {}; the job goes on, and --resume will know only what the journal has so far\n",
        error.what());
  }
}

void Journal::write() {
  with_file([this] {
    std::string bytes;
    bool anew = false;
    {
      const std::lock_guard lock(mutex_);
      bytes = records_.take();
      anew = std::exchange(anew_, false);
    }
    if (anew) {
      sync_output_();
      file_.replace(bytes);
    } else if (!bytes.empty()) {
      file_.append(bytes);
    }
  });
}

void Journal::flush() {
  if (!began_) return;
  write();
  with_file([this] { file_.sync(); });
}

void Journal::remove() {
  stop();
  const std::lock_guard lock(file_mutex_);
  off_ = true;
  file_.remove();
}

void Journal::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace sluice::launcher
