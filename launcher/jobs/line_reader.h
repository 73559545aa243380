// Lines of a file that somebody else wrote, in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::launcher {

constexpr std::size_t kMaxLineBytes = 100U << 20;

/// Line ends are LF or CRLF; a byte order mark in front of the first line is left out.
class LineReader {
 public:
  /// `in` must outlive it; `name` is for messages.
  LineReader(std::istream& in, std::string name, std::size_t max_line_bytes = kMaxLineBytes);

  /// The next line, without its end; false at the end of the file. Of a line longer than the limit
  /// only the beginning is kept, and too_long() is true. Throws IoError when the file cannot be
  /// read.
  bool next(std::string& line);

  std::int64_t number() const { return number_; }  // of the line read last, from 1
  bool too_long() const { return too_long_; }
  /// The line read last ended with the file, not with a line end.
  bool unfinished() const { return unfinished_; }
  /// Bytes of the lines read so far, with their ends.
  std::uint64_t bytes() const { return bytes_; }

 private:
  bool refill(std::streambuf& bytes);
  bool read_line(std::streambuf& bytes, std::string& line);

  std::istream& in_;
  std::string name_;
  std::size_t max_line_bytes_;
  std::vector<char> buffer_;
  std::string_view waiting_;  // in buffer_, not read yet
  std::int64_t number_ = 0;
  std::uint64_t bytes_ = 0;
  bool too_long_ = false;
  bool unfinished_ = false;
};

}  // namespace sluice::launcher
