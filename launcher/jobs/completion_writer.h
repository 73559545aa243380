// Where answers go: one line per finished row, in the file before the next one begins, so that a
// killed job loses nothing it has answered. A file whose name ends in .gz or .zst is gzip or zstd.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/jobs/coding.h"
#include "launcher/jobs/finished_rows.h"

namespace sluice::launcher {

/// What to do with an output file that is there already.
enum class Existing : std::uint8_t {
  refuse,
  overwrite,  // its content is lost when the first record is written, or close() is called
  /// Its records stay. A last line that was cut off is removed at the same time, and a gzip member
  /// or zstd frame that was cut off gets its end.
  resume,
};

/// Sees each record that an output keeps from before, and then each one that is appended.
using RecordWatch = std::function<void(std::string_view record)>;

/// Move-only owner of the open file. One thread. A regular file is locked against a second writer.
class CompletionWriter {
 public:
  /// Throws ConfigError if the file has content (refuse), cannot be made, or another run writes to
  /// it; InputError if it has a line that is no record (resume). Devices and pipes are always
  /// taken.
  /// `rows`: so many records are expected in all, where that is known.
  CompletionWriter(const std::filesystem::path& path, Existing existing, std::int64_t rows = 0,
                   RecordWatch watch = {});
  static CompletionWriter standard_output();
  ~CompletionWriter();
  CompletionWriter(CompletionWriter&& other) noexcept;
  CompletionWriter& operator=(CompletionWriter&&) = delete;

  /// Writes `record` and a line end. Pre: no line end in it. In a coded file it ends a block, so it
  /// can be read though the file has no end yet. If that fails nothing of it stays in the file, and
  /// CapacityError (disk full, quota, file size limit) or IoError is thrown.
  void append(std::string_view record);

  /// Removes now what is not to be kept. Throws IoError.
  void cut();
  /// Makes what was written outlast a power cut. Any thread, before close(). Throws IoError or
  /// CapacityError.
  void sync() const;
  /// The same, and no more can be written.
  void close();

  /// What was there at the start, with resume.
  const FinishedRows& finished() const { return finished_; }
  FinishedRows take_finished() { return std::move(finished_); }

  /// A file of this run's own, and no pipe, device or standard output.
  bool to_file() const { return regular_; }
  /// False on file systems that have no locks: nothing keeps a second run away.
  bool locked() const { return locked_; }

 private:
  CompletionWriter(int descriptor, std::string name);
  void lock();
  void read_finished();
  void add_finished(const std::string& record, std::int64_t line);
  void read_coded();
  void write(std::string_view bytes);
  [[noreturn]] void fail(int code, std::uint64_t wanted, std::uint64_t got) const;

  std::string name_;
  int descriptor_ = -1;
  bool regular_ = false;
  bool locked_ = false;
  bool uncut_ = false;       // more is in the file than is to be kept
  std::uint64_t bytes_ = 0;  // of whole records, as they are stored
  std::string line_;
  std::unique_ptr<Packer> packer_;  // of a coded file
  bool is_open_ = false;            // a member, or frame, that needs an end
  std::string closing_;             // the end of one that a killed run left, until it is written
  std::string coded_;               // the last record
  FinishedRows finished_;
  RecordWatch watch_;
};

}  // namespace sluice::launcher
