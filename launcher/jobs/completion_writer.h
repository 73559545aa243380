// Where answers go: one line per finished row, in the file before the next one begins, so that a
// killed job loses nothing it has answered.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/jobs/finished_rows.h"

namespace sluice::launcher {

/// What to do with an output file that is there already.
enum class Existing : std::uint8_t {
  refuse,
  overwrite,  // its content is lost when the first record is written, or close() is called
  resume,     // its records stay; a last line that was cut off is removed, at the same time
};

/// Move-only owner of the open file. One thread. A regular file is locked against a second writer.
class CompletionWriter {
 public:
  /// Throws ConfigError if the file has content (refuse), cannot be made, or another run writes to
  /// it; InputError if it has a line that is no record (resume). Devices and pipes are always
  /// taken.
  CompletionWriter(const std::filesystem::path& path, Existing existing);
  static CompletionWriter standard_output();
  ~CompletionWriter();
  CompletionWriter(CompletionWriter&& other) noexcept;
  CompletionWriter& operator=(CompletionWriter&&) = delete;

  /// Writes `record` and a line end. Pre: no line end in it. If that fails nothing of it stays in
  /// the file, and CapacityError (disk full, quota, file size limit) or IoError is thrown.
  void append(std::string_view record);

  /// Makes what was written outlast a power cut. Throws IoError or CapacityError.
  void close();

  /// What was there at the start, with resume.
  const FinishedRows& finished() const { return finished_; }
  FinishedRows take_finished() { return std::move(finished_); }

  /// False on file systems that have no locks: nothing keeps a second run away.
  bool locked() const { return locked_; }

 private:
  CompletionWriter(int descriptor, std::string name);
  void lock();
  void read_finished();
  void cut();
  [[noreturn]] void fail(int code, std::uint64_t wanted, std::uint64_t got);

  std::string name_;
  int descriptor_ = -1;
  bool regular_ = false;
  bool locked_ = false;
  bool uncut_ = false;       // more is in the file than is to be kept
  std::uint64_t bytes_ = 0;  // of whole records
  std::string line_;
  FinishedRows finished_;
};

}  // namespace sluice::launcher
