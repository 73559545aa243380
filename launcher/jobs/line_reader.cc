#include "launcher/jobs/line_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <istream>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(std::istream& in, std::string name, std::size_t max_line_bytes)
    : in_(in),
      name_(std::move(name)),
      max_line_bytes_(max_line_bytes),
      buffer_(std::size_t{1} << 16) {}

bool LineReader::next(std::string& line) {
  line.clear();
  too_long_ = false;
  unfinished_ = false;
  try {
    return read_line(*in_.rdbuf(), line);
  } catch (const std::ios_base::failure& problem) {  // how a file buffer says that a read failed
    throw IoError(fmt::format("cannot read {} after line {}: {}", name_, number_, problem.what()));
  }
}

/// Takes what is there, so that a pipe is not waited for longer than it must be.
bool LineReader::refill(std::streambuf& bytes) {
  if (bytes.sgetc() == std::streambuf::traits_type::eof()) return false;
  const std::streamsize there = std::max<std::streamsize>(1, bytes.in_avail());
  const std::streamsize count = bytes.sgetn(buffer_.data(), std::min(there, std::ssize(buffer_)));
  waiting_ = {buffer_.data(), static_cast<std::size_t>(count)};
  return count > 0;
}

bool LineReader::read_line(std::streambuf& bytes, std::string& line) {
  if (waiting_.empty() && !refill(bytes)) return false;
  ++number_;
  std::size_t end = 0;
  do {
    end = waiting_.find('\n');
    const std::string_view part = waiting_.substr(0, end);
    const std::size_t room = max_line_bytes_ - line.size();
    line.append(part.substr(0, room));
    too_long_ = too_long_ || part.size() > room;
    bytes_ += part.size();
    waiting_.remove_prefix(part.size());
  } while (end == std::string_view::npos && refill(bytes));
  unfinished_ = end == std::string_view::npos;
  if (!unfinished_) {
    ++bytes_;
    waiting_.remove_prefix(1);
  }
  if (number_ == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

}  // namespace sluice::launcher
