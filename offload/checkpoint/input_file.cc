#include "offload/checkpoint/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "kernels/device/error.h"

namespace sluice::offload {

InputFile::InputFile(const std::filesystem::path& path) : name_(path.string()) {
  // O_NONBLOCK: opening a FIFO that nobody writes to would otherwise hang for ever.
  descriptor_ = ::open(name_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    throw InputError(fmt::format("cannot open {}: {}; check the path and its permissions", name_,
                                 std::strerror(errno)));
  }
  struct stat status = {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw InputError(fmt::format("{} is not a regular file; give the path of a file", name_));
  }
  bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (is_pointer()) {
    ::close(descriptor_);
    throw InputError(
        fmt::format("{} is a Git LFS pointer, not the file itself; run git lfs pull in "
                    "its folder",
                    name_));
  }
}

// Source: github.com/git-lfs/git-lfs, docs/spec.md: the first line, and fewer than 1024 bytes.
bool InputFile::is_pointer() const {
  constexpr std::string_view kFirstLine = "version https://git-lfs.github.com/spec/";
  if (bytes_ < kFirstLine.size() || bytes_ >= 1024) return false;
  char start[kFirstLine.size()];
  return ::pread(descriptor_, start, sizeof(start), 0) == ssize_t{sizeof(start)} &&
         std::string_view(start, sizeof(start)) == kFirstLine;
}

InputFile::~InputFile() { ::close(descriptor_); }

std::string InputFile::read(std::uint64_t offset, std::uint64_t count) const {
  if (offset > bytes_ || count > bytes_ - offset) {
    throw InputError(
        fmt::format("{} ends at byte {}, but {} bytes at offset {} are needed: it is cut short or "
                    "damaged; fetch it again",
                    name_, bytes_, count, offset));
  }
  std::string text(static_cast<std::size_t>(count), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ::ssize_t got = ::pread(descriptor_, text.data() + done, text.size() - done,
                                  static_cast<::off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw IoError(fmt::format("reading {} bytes at offset {} of {} failed: {}",
                                text.size() - done, offset + done, name_, std::strerror(errno)));
    }
    if (got == 0) {
      throw InputError(
          fmt::format("{} shrank to {} bytes while it was read (it had {}); fetch it "
                      "again",
                      name_, offset + done, bytes_));
    }
    done += static_cast<std::size_t>(got);
  }
  return text;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const InputFile file(path);
  if (file.bytes() > max_bytes) {
    throw InputError(
        fmt::format("{} has {} bytes, more than the {} such a file may have; it is not "
                    "what its name says",
                    file.name(), file.bytes(), max_bytes));
  }
  return file.read(0, file.bytes());
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string shown(text.substr(0, kLongest));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  if (text.size() > kLongest) shown += "...";
  return shown;
}

}  // namespace sluice::offload
