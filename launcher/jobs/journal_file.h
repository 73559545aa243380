// The file of a journal: grows at its end, or is replaced as a whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sluice::launcher {

/// One thread at a time. Nothing is opened or made before replace().
class JournalFile {
 public:
  explicit JournalFile(std::filesystem::path path);
  ~JournalFile();
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;

  /// What the path has; empty where there is nothing. Throws InputError for what is no file, or
  /// cannot be read.
  std::string read() const;

  // All throw IoError, or CapacityError where the disk is full.

  /// Writes a new file, brings it to the disk, and gives it the name: a reader finds the old file
  /// or the new one. If that fails the old one stays.
  void replace(std::string_view bytes);
  /// After replace(). If it fails, nothing of `bytes` stays.
  void append(std::string_view bytes);
  /// What was appended outlasts a power cut.
  void sync();

  /// The file is gone, and what a killed replace() left.
  void remove();

  const std::filesystem::path& path() const { return path_; }

 private:
  void close() noexcept;
  [[noreturn]] void fail(const char* call) const;

  std::filesystem::path path_;
  std::filesystem::path fresh_;  // the new file, until it has its name
  int descriptor_ = -1;
  std::uint64_t bytes_ = 0;
};

}  // namespace sluice::launcher
