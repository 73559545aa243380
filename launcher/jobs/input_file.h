// A job's input: a file, or a pipe that somebody else still writes to.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <streambuf>
#include <string>

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
  std::uint64_t bytes() const { return bytes_; }  // of a regular file
  /// To the beginning of a regular file. Throws IoError.
  void rewind();

  /// The file ends here for who reads it or waits for it. Any thread.
  void stop() noexcept;

 protected:
  /// Throws std::ios_base::failure when the file cannot be read.
  int_type underflow() override;

 private:
  std::string name_;
  int file_ = -1;
  int stopped_ = -1;  // an eventfd
  bool regular_ = false;
  std::uint64_t bytes_ = 0;
  std::array<char, 1U << 16> buffer_;
};

}  // namespace sluice::launcher
