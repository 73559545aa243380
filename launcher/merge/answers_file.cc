#include "launcher/merge/answers_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <istream>
#include <streambuf>
#include <utility>

#include "kernels/device/error.h"
#include "launcher/jobs/coded_output.h"
#include "launcher/jobs/line_reader.h"

namespace sluice::launcher {
namespace {

constexpr std::size_t kWindowBytes = 1U << 16;
constexpr std::size_t kMostRecordBytes = std::size_t{1} << 30;

[[noreturn]] void refuse_read(const std::string& name) {
  throw IoError(fmt::format("cannot read {}: {}", name, std::strerror(errno)));
}

/// 0 at the end.
std::size_t read_at(int descriptor, std::uint64_t offset, char* to, std::size_t size,
                    const std::string& name) {
  for (;;) {
    const ssize_t count = ::pread(descriptor, to, size, static_cast<off_t>(offset));
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) refuse_read(name);
  }
}

/// From the beginning, whatever is read elsewhere.
class DescriptorBuffer : public std::streambuf {
 public:
  DescriptorBuffer(int descriptor, const std::string& name)
      : descriptor_(descriptor), name_(name) {}

 protected:
  int_type underflow() override {
    const std::size_t count = read_at(descriptor_, offset_, bytes_.data(), bytes_.size(), name_);
    if (count == 0) return traits_type::eof();
    offset_ += count;
    setg(bytes_.data(), bytes_.data(), bytes_.data() + count);
    return traits_type::to_int_type(bytes_.front());
  }

 private:
  int descriptor_;
  const std::string& name_;
  std::uint64_t offset_ = 0;
  std::array<char, kWindowBytes> bytes_;
};

/// A file without a name in `folder`.
int make_scratch(const std::string& folder) {
  std::string name = folder + "/.sluice-merge-XXXXXX";
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0) {
    throw IoError(
        fmt::format("cannot make a file in {} to unpack into: {}", folder, std::strerror(errno)));
  }
  ::unlink(name.c_str());
  return descriptor;
}

void write_all(int descriptor, const char* bytes, std::size_t size, const std::string& folder) {
  while (size > 0) {
    const ssize_t count = ::write(descriptor, bytes, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const std::string sentence =
          fmt::format("cannot unpack into {}: {}", folder, std::strerror(errno));
      if (errno == ENOSPC || errno == EDQUOT) throw CapacityError(sentence + "; make room there");
      throw IoError(sentence);
    }
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
}

}  // namespace

AnswersFile::AnswersFile(const std::string& name, const std::string& scratch)
    : name_(name), descriptor_(::open(name.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw InputError(fmt::format("cannot open {}: {}", name_, std::strerror(errno)));
  }
  try {
    if (::flock(descriptor_, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw ConfigError(fmt::format("a run is writing to {}; wait for it", name_));
    }
    unpack(scratch);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

AnswersFile::~AnswersFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

AnswersFile::AnswersFile(AnswersFile&& other) noexcept
    : name_(std::move(other.name_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      window_(std::move(other.window_)),
      window_offset_(other.window_offset_) {}

void AnswersFile::unpack(const std::string& scratch) {
  std::array<char, 8> first;
  const std::size_t size = read_at(descriptor_, 0, first.data(), first.size(), name_);
  const Coding coding = coding_of_bytes({first.data(), size}).value_or(Coding::none);
  if (coding == Coding::none) return;
  CodedOutput coded(name_, coding);
  const int unpacked = make_scratch(scratch);
  ::close(std::exchange(descriptor_, unpacked));
  std::vector<char> bytes(kWindowBytes);
  for (std::streamsize count = 0; (count = coded.sgetn(bytes.data(), std::ssize(bytes))) > 0;) {
    write_all(descriptor_, bytes.data(), static_cast<std::size_t>(count), scratch);
  }
}

bool AnswersFile::read(const OnRecord& on_record) const {
  DescriptorBuffer bytes(descriptor_, name_);
  std::istream in(&bytes);
  LineReader lines(in, name_, kMostRecordBytes);
  std::uint64_t offset = 0;
  for (std::string line; lines.next(line);) {
    if (lines.unfinished()) return false;
    on_record(line, offset, lines.number());
    offset = lines.bytes();
  }
  return true;
}

/// The window becomes what the file has from `offset` on, at least a line of it.
void AnswersFile::load(std::uint64_t offset) {
  window_offset_ = offset;
  window_.clear();
  for (std::size_t more = kWindowBytes;; more *= 2) {
    const std::size_t before = window_.size();
    window_.resize(before + more);
    const std::size_t count =
        read_at(descriptor_, offset + before, window_.data() + before, more, name_);
    window_.resize(before + count);
    if (count == 0 || std::memchr(window_.data() + before, '\n', count) != nullptr) return;
  }
}

std::string_view AnswersFile::record_at(std::uint64_t offset) {
  for (const bool loaded : {false, true}) {
    const bool inside = offset >= window_offset_ && offset < window_offset_ + window_.size();
    if (inside) {
      const std::string_view rest =
          std::string_view(window_.data(), window_.size()).substr(offset - window_offset_);
      const std::size_t end = rest.find('\n');
      if (end != std::string_view::npos) return rest.substr(0, end);
    }
    if (!loaded) load(offset);
  }
  throw InputError(fmt::format("{} became shorter while it was read", name_));
}

}  // namespace sluice::launcher
