#include "launcher/jobs/journal_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

constexpr mode_t kMode = 0644;

/// False, with errno: not all of it.
bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// A name that changed is on the disk when its folder is. Some file systems cannot be asked to.
void sync_folder(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(::fsync(descriptor));
  ::close(descriptor);
}

}  // namespace

JournalFile::JournalFile(std::filesystem::path path) : path_(std::move(path)), fresh_(path_) {
  fresh_ += ".new";
}

JournalFile::~JournalFile() { close(); }

void JournalFile::close() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

std::string JournalFile::read() const {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path_, error);
  if (!std::filesystem::exists(status)) return {};
  if (!std::filesystem::is_regular_file(status)) {
    throw InputError(fmt::format("{} is no file, and so no journal; move it away", path_.string()));
  }
  std::ifstream file(path_, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || file.bad()) {
    throw InputError(
        fmt::format("cannot read the journal {}: {}", path_.string(), std::strerror(errno)));
  }
  return bytes;
}

void JournalFile::replace(std::string_view bytes) {
  close();
  descriptor_ = ::open(fresh_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kMode);
  if (descriptor_ < 0) fail("open");
  if (!write_all(descriptor_, bytes)) fail("write");
  if (::fdatasync(descriptor_) != 0) fail("fdatasync");
  if (::rename(fresh_.c_str(), path_.c_str()) != 0) fail("rename");
  sync_folder(path_);
  bytes_ = bytes.size();
}

void JournalFile::append(std::string_view bytes) {
  if (!write_all(descriptor_, bytes)) {
    const int code = errno;
    static_cast<void>(::ftruncate(descriptor_, static_cast<off_t>(bytes_)));
    errno = code;
    fail("write");
  }
  bytes_ += bytes.size();
}

void JournalFile::sync() {
  if (::fdatasync(descriptor_) != 0) fail("fdatasync");
}

void JournalFile::remove() {
  close();
  ::unlink(fresh_.c_str());
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT) fail("unlink");
}

void JournalFile::fail(const char* call) const {
  const int code = errno;
  const std::string sentence =
      fmt::format("cannot write the journal {}: {}: {}", path_.string(), call, std::strerror(code));
  if (code == ENOSPC || code == EDQUOT || code == EFBIG) throw CapacityError(sentence);
  throw IoError(sentence);
}

}  // namespace sluice::launcher
