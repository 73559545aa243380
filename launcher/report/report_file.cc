#include "launcher/report/report_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/device/error.h"

namespace sluice::launcher {

namespace {

[[noreturn]] void refuse_write(const std::filesystem::path& path, const char* call, int error) {
  const std::string sentence =
      fmt::format("{}: cannot be written: {}: {}{}", path.string(), call, strerrorname_np(error),
                  error == ENOSPC ? "; make room on that disk" : "");
  if (error == ENOSPC || error == EDQUOT) throw CapacityError(sentence);
  throw IoError(sentence);
}

/// Closes without a word on the way out of an exception; close() is for the rest.
class OpenFile {
 public:
  OpenFile(const std::filesystem::path& path, int flags)
      : path_(path), descriptor_(::open(path.c_str(), flags | O_WRONLY | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) refuse_write(path_, "open", errno);
  }
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write(const std::string& text) const {
    std::size_t done = 0;
    while (done < text.size()) {
      const ssize_t count = ::write(descriptor_, text.data() + done, text.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) refuse_write(path_, "write", errno);
      done += static_cast<std::size_t>(count);
    }
  }
  void close() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (::close(descriptor) != 0) refuse_write(path_, "close", errno);
  }

 private:
  const std::filesystem::path& path_;
  int descriptor_;
};

}  // namespace

void check_writable(const std::filesystem::path& path, const std::string& flag) {
  std::error_code error;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (std::filesystem::is_directory(path, error)) {
    throw ConfigError(fmt::format("{} {}: is a folder; name a file in it", flag, path.string()));
  }
  if (!std::filesystem::is_directory(folder, error)) {
    throw ConfigError(fmt::format("{} {}: there is no folder '{}'; make it first", flag,
                                  path.string(), folder.string()));
  }
  if (::access(folder.c_str(), W_OK) != 0 && ::access(path.c_str(), W_OK) != 0) {
    throw ConfigError(fmt::format("{} {}: cannot be written there: {}", flag, path.string(),
                                  strerrorname_np(errno)));
  }
}

void write_report_file(const std::filesystem::path& path, const std::string& text) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    OpenFile file(path, 0);
    file.write(text);
    file.close();
    return;
  }
  const std::filesystem::path fresh = fmt::format("{}.{}.new", path.string(), ::getpid());
  try {
    OpenFile file(fresh, O_CREAT | O_TRUNC);
    file.write(text);
    file.close();
    if (::rename(fresh.c_str(), path.c_str()) != 0) refuse_write(path, "rename", errno);
  } catch (const Error&) {
    ::unlink(fresh.c_str());
    throw;
  }
}

}  // namespace sluice::launcher
