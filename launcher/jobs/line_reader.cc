#include "launcher/jobs/line_reader.h"

#include <fmt/format.h>

#include <istream>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(std::istream& in, std::string name, std::size_t max_line_bytes)
    : in_(in), name_(std::move(name)), max_line_bytes_(max_line_bytes) {}

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

bool LineReader::read_line(std::streambuf& bytes, std::string& line) {
  int byte = bytes.sbumpc();
  if (byte == EOF) return false;
  ++number_;
  for (; byte != EOF && byte != '\n'; byte = bytes.sbumpc()) {
    ++bytes_;
    if (line.size() < max_line_bytes_) {
      line.push_back(static_cast<char>(byte));
    } else {
      too_long_ = true;
    }
  }
  unfinished_ = byte == EOF;
  if (!unfinished_) ++bytes_;
  if (number_ == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

}  // namespace sluice::launcher
