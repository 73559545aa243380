#include "launcher/merge/merged_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kWriteBytes = 1U << 20;
constexpr mode_t kMode = 0644;

}  // namespace

MergedFile::MergedFile(std::string name)
    : name_(std::move(name)), fresh_(fmt::format("{}.{}.new", name_, ::getpid())) {
  descriptor_ = ::open(fresh_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, kMode);
  if (descriptor_ < 0) {
    throw ConfigError(fmt::format("cannot make the output {}: {}", name_, std::strerror(errno)));
  }
  const Coding coding = coding_of_name(name_);
  if (coding != Coding::none) packer_ = make_packer(coding);
}

MergedFile::~MergedFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(fresh_.c_str());
}

void MergedFile::fail(const char* call) const {
  const int code = errno;
  const std::string sentence =
      fmt::format("cannot write {}: {}: {}", name_, call, std::strerror(code));
  if (code == ENOSPC || code == EDQUOT || code == EFBIG) {
    throw CapacityError(sentence + "; make room on that disk");
  }
  throw IoError(sentence);
}

void MergedFile::add(std::string_view record) {
  if (packer_) {
    packer_->add(record, false, waiting_);
    packer_->add("\n", false, waiting_);
  } else {
    waiting_.append(record).push_back('\n');
  }
  if (waiting_.size() >= kWriteBytes) write();
}

void MergedFile::write() {
  std::string_view rest = waiting_;
  while (!rest.empty()) {
    const ssize_t count = ::write(descriptor_, rest.data(), rest.size());
    if (count < 0 && errno != EINTR) fail("write");
    if (count > 0) rest.remove_prefix(static_cast<std::size_t>(count));
  }
  waiting_.clear();
}

void MergedFile::commit() {
  if (packer_) packer_->finish(waiting_);
  write();
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP) {
    fail("fsync");
  }
  if (::rename(fresh_.c_str(), name_.c_str()) != 0) fail("rename");
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("close");
}

}  // namespace sluice::launcher
