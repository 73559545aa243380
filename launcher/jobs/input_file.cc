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
}

void InputFile::stop() noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(stopped_, &one, sizeof one));  // fails only where it is full of ones
}

InputFile::int_type InputFile::underflow() {
  for (;;) {
    std::array<pollfd, 2> ready = {{{file_, POLLIN, 0}, {stopped_, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw std::ios_base::failure(std::strerror(errno));
    }
    if (ready[1].revents != 0) return traits_type::eof();
    const ssize_t count = ::read(file_, buffer_.data(), buffer_.size());
    if (count == 0) return traits_type::eof();
    if (count > 0) {
      setg(buffer_.data(), buffer_.data(), buffer_.data() + count);
      return traits_type::to_int_type(buffer_.front());
    }
    if (errno != EINTR && errno != EAGAIN) throw std::ios_base::failure(std::strerror(errno));
  }
}

}  // namespace sluice::launcher
