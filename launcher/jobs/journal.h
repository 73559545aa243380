// OUTPUT.journal: the tokens of answers that are under way, so that --resume goes on in the middle
// of them.
//
// The output alone says which rows are done; the journal only saves work. A row is lost or answered
// twice in none of these cases:
//
//   killed before the journal has a token      the token is made again, from the ones before it
//   killed while a record is written           the torn record is dropped, as above
//   killed before the answer's line is whole   the output drops the torn line; the journal has the
//                                              answer's tokens, and the rest is made again
//   killed after the line, before anything     the output has the row, so its tokens are dropped
//   of that is in the journal
//   killed while the journal is made anew      the old one is there until the new one is whole and
//                                              takes its name
//   killed before the journal is removed       all its rows are in the output; it is removed by
//                                              the next run
//   power cut                                  as killed, at the last time that a file was on disk:
//                                              kSyncEvery for the journal. A journal made anew
//                                              lacks finished rows, so their lines reach the disk
//                                              before it does
//   a row was changed, or is another's         it has another digest, and so no tokens
//
// The head's thread only puts tokens into memory. A thread of the journal writes them, and brings
// them to the disk more rarely. If that fails, the job goes on with the journal as it is, and says
// so.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "launcher/jobs/completion_writer.h"
#include "launcher/jobs/journal_file.h"
#include "launcher/jobs/journal_format.h"

namespace sluice::launcher {

struct JournalOptions {
  std::filesystem::path path;
  std::vector<JournalFact> facts;  // never empty
  std::int32_t vocabulary = 0;
  /// Tokens wait no longer than this to be written; 0: what is there is read, nothing is written.
  double seconds = 1;
  /// The journal is made anew when it is larger than this and four times what rows under way need.
  std::size_t slack_bytes = std::size_t{16} << 20;
};

class Journal {
 public:
  static constexpr std::chrono::seconds kSyncEvery{20};

  /// Where the journal of an output lies.
  static std::filesystem::path path_of(const std::filesystem::path& output);

  /// Reads the journal that is there, and leaves it as it is until begin(). Throws InputError for a
  /// file that is none; ConfigError where it has tokens and `existing` is refuse, or a fact differs
  /// and it is resume.
  Journal(JournalOptions options, Existing existing);
  /// Writes what is waiting; the file stays.
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // All by one thread, the head's.

  /// A sentence about damage; empty: there was none.
  const std::string& damage() const { return damage_; }
  /// Drops rows that the output has.
  void forget(const std::function<bool(std::uint64_t name)>& is_answered);
  /// Rows that were read and not started, and the tokens of their answers.
  std::size_t unused() const { return waiting_.size(); }
  std::int64_t unused_tokens() const;

  /// Makes the file anew, with what it still needs, and starts the thread. `sync_output` brings the
  /// output to the disk. It is called before a file made anew takes its place, by any thread.
  void begin(std::function<void()> sync_output);

  struct Start {
    std::uint32_t number = 0;  // what the row is called from here on
    bool again = false;        // the row was under way before
    MadeTokens made;           // of it, then
  };
  /// A row starts. `prompt_results`: how many it will have; what was made with another number is
  /// not used.
  Start start(const JournalKey& key, std::size_t prompt_results);
  void add(std::uint32_t number, JournalToken kind, const stage::TokenResult& result);
  /// The row is in the output.
  void done(std::uint32_t number);

  /// Writes what is waiting, without waiting for the disk.
  void write();
  /// Writes what is waiting and brings it to the disk.
  void flush();
  /// All rows are in the output.
  void remove();

 private:
  void read(Existing existing);
  void check_facts(const std::vector<JournalFact>& facts, std::size_t rows) const;
  void make_records_anew();
  bool writes() const { return began_ && !off_; }
  void work();
  void stop();
  template <class Call>
  void with_file(const Call& call);

  JournalOptions options_;
  std::function<void()> sync_output_;
  std::string damage_;

  // The head's thread's:
  std::unordered_map<std::uint32_t, JournalRow> rows_;  // under way, or waiting
  std::map<JournalKey, std::uint32_t> waiting_;         // read and not started
  std::uint32_t next_number_ = 0;
  std::size_t row_bytes_ = 0;   // of rows_
  std::size_t file_bytes_ = 0;  // about: written, or to be
  std::string entry_;           // scratch
  bool began_ = false;

  std::mutex mutex_;  // guards these
  std::condition_variable wake_;
  JournalRecords records_;  // to be written
  bool anew_ = false;       // records_ are to be the whole file
  bool stopping_ = false;

  std::mutex file_mutex_;  // guards the file, and the order in which records are taken
  JournalFile file_;

  std::atomic<bool> off_{false};  // writing failed
  std::thread thread_;
};

}  // namespace sluice::launcher
