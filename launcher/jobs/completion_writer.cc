#include "launcher/jobs/completion_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/jobs/coded_output.h"
#include "launcher/jobs/line_reader.h"

namespace sluice::launcher {
namespace {

constexpr mode_t kMode = 0644;
// An answer with log-probabilities is longer than its row may be.
constexpr std::size_t kMaxRecordBytes = std::size_t{1} << 30;

bool is_full(int code) { return code == ENOSPC || code == EDQUOT || code == EFBIG; }

bool is_regular(int descriptor) {
  struct stat status = {};
  return ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

bool is_special(const std::filesystem::path& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

/// An empty file is one that a run made before it was refused, or killed at once: nothing is lost.
bool has_content(int descriptor) {
  struct stat status = {};
  return ::fstat(descriptor, &status) != 0 || status.st_size > 0;
}

int open_output(const std::filesystem::path& path, Existing existing) {
  const bool special = is_special(path);
  if (special && existing == Existing::resume) {
    throw ConfigError(fmt::format("the output {} is no regular file, so there is nothing to resume",
                                  path.string()));
  }
  const int access = special ? O_WRONLY : O_RDWR;
  const int descriptor = ::open(path.c_str(), access | O_CREAT | O_APPEND | O_CLOEXEC, kMode);
  if (descriptor >= 0) return descriptor;
  throw ConfigError(
      fmt::format("cannot make the output {}: {}", path.string(), std::strerror(errno)));
}

}  // namespace

CompletionWriter::CompletionWriter(int descriptor, std::string name)
    : name_(std::move(name)), descriptor_(descriptor), regular_(is_regular(descriptor)) {}

CompletionWriter::CompletionWriter(const std::filesystem::path& path, Existing existing,
                                   std::int64_t rows, RecordWatch watch)
    : CompletionWriter(open_output(path, existing), path.string()) {
  watch_ = std::move(watch);
  finished_.ids().reserve(static_cast<std::size_t>(rows));
  if (const Coding coding = coding_of_name(name_); coding != Coding::none) {
    packer_ = make_packer(coding);
  }
  if (!regular_) return;
  lock();
  if (existing == Existing::refuse && has_content(descriptor_)) {
    throw ConfigError(
        fmt::format("the output {} exists; go on with it by --resume, replace it by "
                    "--overwrite, or name another",
                    name_));
  }
  if (existing == Existing::resume && packer_) {
    read_coded();
  } else if (existing == Existing::resume) {
    read_finished();
  }
  uncut_ = true;
}

/// Truncate only when there is something to write. A run that is refused for lack of memory must
/// not delete the answers of an earlier run.
void CompletionWriter::cut() {
  if (!std::exchange(uncut_, false)) return;
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes_)) != 0) fail(errno, 0, 0);
  write(std::exchange(closing_, {}));
}

CompletionWriter CompletionWriter::standard_output() {
  const int descriptor = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
  if (descriptor < 0) {
    throw IoError(fmt::format("cannot write to standard output: {}", std::strerror(errno)));
  }
  CompletionWriter writer(descriptor, "standard output");
  writer.regular_ = false;  // redirected to a file of someone else's: never cut
  return writer;
}

CompletionWriter::CompletionWriter(CompletionWriter&& other) noexcept
    : name_(std::move(other.name_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      regular_(other.regular_),
      locked_(other.locked_),
      uncut_(other.uncut_),
      bytes_(other.bytes_),
      line_(std::move(other.line_)),
      packer_(std::move(other.packer_)),
      is_open_(other.is_open_),
      closing_(std::move(other.closing_)),
      coded_(std::move(other.coded_)),
      finished_(std::move(other.finished_)),
      watch_(std::move(other.watch_)) {}

CompletionWriter::~CompletionWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void CompletionWriter::lock() {
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    locked_ = true;
    return;
  }
  if (errno == EWOULDBLOCK) {
    throw ConfigError(
        fmt::format("another run is writing to the output {}; wait for it, or name "
                    "another output",
                    name_));
  }
  // Some cluster file systems have no locks: those jobs run, and locked() tells.
  if (errno != ENOSYS && errno != EOPNOTSUPP && errno != ENOLCK) fail(errno, 0, 0);
}

void CompletionWriter::add_finished(const std::string& record, std::int64_t line) {
  if (!finished_.take(record)) FinishedRows::refuse(fmt::format("{}, line {}", name_, line));
  if (watch_) watch_(record);
}

/// bytes_ becomes the end of the last whole line. Bytes behind it are half a record: the last run
/// ended there.
void CompletionWriter::read_finished() {
  std::ifstream file(name_, std::ios::binary);
  if (!file)
    throw IoError(fmt::format("cannot read the output {}: {}", name_, std::strerror(errno)));
  LineReader lines(file, name_, kMaxRecordBytes);
  for (std::string line; lines.next(line);) {
    if (lines.unfinished()) break;
    add_finished(line, lines.number());
    bytes_ = lines.bytes();
  }
}

/// bytes_ becomes the last place at which the file can be cut. Behind it there may be a torn block,
/// of one record at most where sluice wrote it.
void CompletionWriter::read_coded() {
  CodedOutput file(name_, coding_of_name(name_));
  std::istream in(&file);
  LineReader lines(in, name_, kMaxRecordBytes);
  std::string held;  // the last whole line, until it is known that it stays
  std::int64_t number = 0;
  std::uint64_t held_end = 0;
  std::uint64_t added_end = 0;
  const auto add_held = [&] {
    if (number == 0) return;
    add_finished(held, number);
    added_end = held_end;
  };
  for (std::string line; lines.next(line) && !lines.unfinished();) {
    add_held();
    held.swap(line);
    number = lines.number();
    held_end = lines.bytes();
  }
  const CodedOutput::Cut& cut = file.cut();
  if (held_end <= cut.plain) add_held();
  if (added_end > cut.plain) {
    throw InputError(
        fmt::format("the output {} was cut off, and sluice did not compress it, so more than one "
                    "record would be lost; unpack what can be unpacked, or start anew with "
                    "--overwrite",
                    name_));
  }
  bytes_ = cut.coded;
  closing_ = cut.closing;
}

void CompletionWriter::append(std::string_view record) {
  cut();
  line_.assign(record);
  line_.push_back('\n');
  if (!packer_) {
    write(line_);
  } else {
    coded_.clear();
    packer_->add(line_, true, coded_);
    is_open_ = true;
    write(coded_);
  }
  if (watch_) watch_(record);
}

void CompletionWriter::write(std::string_view bytes) {
  std::uint64_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count = ::write(descriptor_, bytes.data() + written, bytes.size() - written);
    if (count > 0) {
      written += static_cast<std::uint64_t>(count);
    } else if (count == 0 || errno == EINTR) {
      continue;
    } else if (errno == EAGAIN) {
      pollfd ready = {descriptor_, POLLOUT, 0};
      static_cast<void>(::poll(&ready, 1, -1));
    } else {
      fail(errno, bytes.size(), written);
    }
  }
  bytes_ += bytes.size();
}

void CompletionWriter::sync() const {
  // Pipes and terminals cannot be synchronised, and need not be.
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP) {
    fail(errno, 0, 0);
  }
}

void CompletionWriter::close() {
  if (descriptor_ < 0) return;
  cut();
  if (packer_ && (is_open_ || bytes_ == 0)) {
    coded_.clear();
    packer_->finish(coded_);
    is_open_ = false;
    write(coded_);
  }
  sync();
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno, 0, 0);
}

void CompletionWriter::fail(int code, std::uint64_t wanted, std::uint64_t got) const {
  // Remove a part of a line: the next record would be glued to it.
  const bool mended =
      !regular_ || got == 0 || ::ftruncate(descriptor_, static_cast<off_t>(bytes_)) == 0;
  const std::string sentence = fmt::format(
      "cannot write to the output {}: {} ({} of {} bytes at offset {}{})", name_,
      std::strerror(code), got, wanted, bytes_, mended ? "" : "; a part of a line is left there");
  if (is_full(code)) {
    throw CapacityError(sentence + "; make room and go on with --resume");
  }
  throw IoError(sentence);
}

}  // namespace sluice::launcher
