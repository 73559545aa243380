#include "launcher/jobs/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ios>
#include <optional>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {

InputFile::InputFile(const std::filesystem::path& path)
    : name_(path == "-" ? "standard input" : path.string()) {
  std::error_code failure;
  if (std::filesystem::is_directory(path, failure)) {
    throw InputError(fmt::format("the input {} is a folder; name a file of prompts", name_));
  }
  file_ = path == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                      : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) {
    throw InputError(fmt::format("cannot open the input {}: {}", name_, std::strerror(errno)));
  }
  struct stat status = {};
  regular_ = ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
  bytes_ = regular_ ? static_cast<std::uint64_t>(status.st_size) : 0;
  stopped_ = ::eventfd(0, EFD_CLOEXEC);
  if (stopped_ < 0) {
    const int code = errno;
    ::close(file_);
    throw IoError(fmt::format("cannot make an eventfd: {}", std::strerror(code)));
  }
}

InputFile::~InputFile() {
  ::close(file_);
  ::close(stopped_);
}

void InputFile::rewind() {
  if (::lseek(file_, 0, SEEK_SET) < 0) {
    throw IoError(fmt::format("cannot read {} again: {}", name_, std::strerror(errno)));
  }
  setg(nullptr, nullptr, nullptr);
  has_begun_ = false;
  waiting_ = {};
  taken_ = 0;
}

void InputFile::stop() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(stopped_, &one, sizeof one));  // fails only where it is full of ones
}

/// 0 at the end, and when stopped.
std::size_t InputFile::read(char* to, std::size_t size) {
  for (;;) {
    std::array<pollfd, 2> ready = {{{file_, POLLIN, 0}, {stopped_, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw std::ios_base::failure(std::strerror(errno));
    }
    if (ready[1].revents != 0) {
      is_stopped_ = true;
      return 0;
    }
    const ssize_t count = ::read(file_, to, size);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR && errno != EAGAIN) throw std::ios_base::failure(std::strerror(errno));
  }
}

void InputFile::find_coding() {
  std::size_t size = 0;
  std::optional<Coding> coding;
  while (!coding) {
    const std::size_t more = read(stored_.data() + size, stored_.size() - size);
    size += more;
    coding = coding_of_bytes({stored_.data(), size});
    if (more == 0) coding = coding.value_or(Coding::none);
  }
  waiting_ = {stored_.data(), size};
  coding_ = *coding;
  unpacker_ = coding_ == Coding::none ? nullptr : make_unpacker(coding_);
  has_begun_ = true;
}

void InputFile::refuse(const std::string& what) const {
  throw InputError(fmt::format("the input {} is a damaged {} file: {} at byte {}; make it anew",
                               name_, name_of(coding_), what, taken_));
}

/// Plain bytes that are in plain_ now; 0 at the end.
std::size_t InputFile::decode() {
  for (;;) {
    Unpacker::Step step;
    try {
      step = unpacker_->step(waiting_, plain_);
    } catch (const CodingError& problem) {
      refuse(problem.what());
    }
    waiting_.remove_prefix(step.read);
    taken_ += step.read;
    if (step.written > 0) return step.written;
    if (!waiting_.empty() || step.read > 0) continue;
    waiting_ = {stored_.data(), read(stored_.data(), stored_.size())};
    if (!waiting_.empty()) continue;
    if (!unpacker_->is_whole() && !is_stopped_) refuse("it ends too early,");
    return 0;
  }
}

InputFile::int_type InputFile::underflow() {
  char* bytes = stored_.data();
  std::size_t size = 0;
  if (!has_begun_) find_coding();
  if (unpacker_) {
    bytes = plain_.data();
    size = decode();
  } else if (!waiting_.empty()) {
    size = std::exchange(waiting_, {}).size();
  } else {
    size = read(bytes, stored_.size());
  }
  if (size == 0) return traits_type::eof();
  setg(bytes, bytes, bytes + size);
  return traits_type::to_int_type(*bytes);
}

}  // namespace sluice::launcher
