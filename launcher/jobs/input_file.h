// A job's input: a file, or a pipe that somebody else still writes to. Either may be gzip or zstd,
// which its first bytes tell.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <streambuf>
#include <string>
#include <string_view>

#include "launcher/jobs/coding.h"

namespace sluice::launcher {

/// "-" is standard input. One thread, but for stop().
class InputFile : public std::streambuf {
 public:
  /// Throws InputError if the file is not there, is a folder, or cannot be opened. Of a named pipe
  /// it waits for the writer.
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile() override;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& name() const { return name_; }
  /// Can be read twice, and what comes next is there already.
  bool is_regular() const { return regular_; }
  std::uint64_t bytes() const { return bytes_; }  // of a regular file, as they are stored
  /// Known when something was read. What is read are plain bytes.
  Coding coding() const { return coding_; }
  /// To the beginning of a regular file. Throws IoError.
  void rewind();

  /// The file ends here for who reads it or waits for it. Any thread.
  void stop() noexcept;

 protected:
  /// Throws std::ios_base::failure when the file cannot be read, and InputError where its coded
  /// bytes are damaged or end too early.
  int_type underflow() override;

 private:
  std::size_t read(char* to, std::size_t size);
  void find_coding();
  std::size_t decode();
  [[noreturn]] void refuse(const std::string& what) const;

  std::string name_;
  int file_ = -1;
  int stopped_ = -1;  // an eventfd
  bool regular_ = false;
  std::uint64_t bytes_ = 0;
  bool is_stopped_ = false;  // as the reader has seen
  bool has_begun_ = false;   // the coding is known
  Coding coding_ = Coding::none;
  std::unique_ptr<Unpacker> unpacker_;
  std::array<char, 1U << 16> stored_;  // as read
  std::string_view waiting_;           // in stored_, not taken yet
  std::uint64_t taken_ = 0;            // stored bytes before waiting_
  std::array<char, 1U << 16> plain_;   // as decoded
};

}  // namespace sluice::launcher
