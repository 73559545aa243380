#include "offload/weights/packed_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/device/error.h"
#include "offload/checkpoint/input_file.h"
#include "offload/disk/disk_requests.h"
#include "offload/memory_plan.h"

namespace sluice::offload {

namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kWriteBytes = std::size_t{1} << 20;  // a multiple of the block
constexpr std::size_t kSumBytes = sizeof(std::uint32_t);
constexpr std::size_t kFooterSumBytes = sizeof(std::uint64_t);
constexpr const char* kAdvice = "delete it, and the next run packs it anew";

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::uint32_t sum_of(const std::byte* block) {
  return static_cast<std::uint32_t>(XXH3_64bits(block, kPackedBlock));
}

std::uint64_t sum_of(const std::vector<std::uint32_t>& sums) {
  return XXH3_64bits(sums.data(), sums.size() * kSumBytes);
}

// 0: the lock is ours; EWOULDBLOCK: another's; else the file system has none.
int lock_without_waiting(int descriptor) {
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

// A name that mkostemp() made of ".<file>.packed.XXXXXX".
bool is_temporary(const std::string& name) {
  return name.starts_with(".") && name.find(".packed.") != std::string::npos;
}

}  // namespace

// ------------------------------------------------------------------------------------------ layout

PackedLayout::PackedLayout(const std::string& origin, std::vector<PackedTensor> tensors)
    : tensors_(std::move(tensors)) {
  header_ = fmt::format("sluice packed weights, format {}\n{}\n", kPackedFormat, origin);
  for (const PackedTensor& tensor : tensors_) {
    header_ += fmt::format("{} {} {} {}\n", tensor.name, name_of(tensor.dtype), tensor.rows,
                           tensor.columns);
  }
  header_.resize(round_up(header_.size(), kPackedBlock), '\0');
  std::uint64_t end = header_.size();
  for (PackedTensor& tensor : tensors_) {
    tensor.offset = end;
    end = round_up(end + tensor.bytes(), kAlignment);
  }
  blocks_ = round_up(end, kPackedBlock) / kPackedBlock;
}

std::uint64_t PackedLayout::file_bytes() const {
  return blocks_ * (kPackedBlock + kSumBytes) + kFooterSumBytes;
}

std::vector<std::uint32_t> read_packed_sums(const std::filesystem::path& path,
                                            const PackedLayout& layout) {
  const InputFile file(path);
  if (file.bytes() != layout.file_bytes()) {
    throw InputError(fmt::format(
        "{} ends at offset {} and not at {}: it is no whole file of packed weights of this model; "
        "{}",
        file.name(), file.bytes(), layout.file_bytes(), kAdvice));
  }
  const std::string header = file.read(0, layout.header().size());
  const auto wrong = std::ranges::mismatch(header, layout.header()).in1;
  if (wrong != header.end()) {
    throw InputError(
        fmt::format("{} does not say at offset {} what packed weights of this model must say: it "
                    "is damaged, or another's; {}",
                    file.name(), wrong - header.begin(), kAdvice));
  }
  const std::uint64_t footer_at = layout.blocks() * kPackedBlock;
  const std::string footer = file.read(footer_at, layout.file_bytes() - footer_at);
  std::vector<std::uint32_t> sums(layout.blocks());
  std::memcpy(sums.data(), footer.data(), sums.size() * kSumBytes);
  std::uint64_t sum = 0;
  std::memcpy(&sum, footer.data() + sums.size() * kSumBytes, sizeof(sum));
  if (sum != sum_of(sums)) {
    throw InputError(fmt::format("{} is damaged: the sums at offset {} are not those written; {}",
                                 file.name(), footer_at, kAdvice));
  }
  return sums;
}

// ----------------------------------------------------------------------------------------- writing

PackedWriter::PackedWriter(std::filesystem::path path, const PackedLayout& layout)
    : path_(std::move(path)), layout_(layout) {
  std::string name =
      (path_.parent_path() / fmt::format(".{}.XXXXXX", path_.filename().string())).string();
  for (;;) {
    name.replace(name.size() - 6, 6, "XXXXXX");
    descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ < 0) fail("create", errno);
    // Another run may take it for a dead one's and remove it before it is locked.
    struct stat status = {};
    const bool taken = lock_without_waiting(descriptor_) == EWOULDBLOCK;
    if (!taken && ::fstat(descriptor_, &status) == 0 && status.st_nlink > 0) break;
    ::close(descriptor_);
  }
  temporary_ = name;
  // Where the file system cannot reserve, a full disk shows while writing.
  if (::fallocate(descriptor_, 0, 0, static_cast<off_t>(layout_.file_bytes())) != 0 &&
      errno != EOPNOTSUPP) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    ::close(descriptor_);
    fail("reserve", error);
  }
  waiting_.reserve(kWriteBytes);
  sums_.reserve(layout_.blocks());
  put(reinterpret_cast<const std::byte*>(layout_.header().data()), layout_.header().size());
}

PackedWriter::~PackedWriter() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void PackedWriter::append(const std::byte* data, std::size_t bytes) {
  assert(tensor_ < layout_.tensors().size());
  const PackedTensor& tensor = layout_.tensors()[tensor_];
  if (position_ < tensor.offset) put_zeros(tensor.offset);
  assert(position_ + bytes <= tensor.offset + tensor.bytes());
  put(data, bytes);
  if (position_ == tensor.offset + tensor.bytes()) ++tensor_;
}

void PackedWriter::commit() {
  assert(tensor_ == layout_.tensors().size());
  put_zeros(layout_.blocks() * kPackedBlock);
  flush();
  const std::uint64_t sum = sum_of(sums_);
  write(sums_.data(), sums_.size() * kSumBytes);
  write(&sum, sizeof(sum));
  assert(written_ == layout_.file_bytes());
  if (::fsync(descriptor_) != 0) fail("write", errno);
  // It is read past the page cache, which has better things to keep.
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("name", errno);
  ::close(std::exchange(descriptor_, -1));
  const int folder = ::open(path_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail("name", errno);
  const int error = ::fsync(folder) == 0 ? 0 : errno;
  ::close(folder);
  if (error != 0 && error != EINVAL) fail("name", error);
}

void PackedWriter::put(const std::byte* data, std::size_t bytes) {
  while (bytes > 0) {
    const std::size_t count = std::min(bytes, kWriteBytes - waiting_.size());
    waiting_.insert(waiting_.end(), data, data + count);
    data += count;
    bytes -= count;
    position_ += count;
    if (waiting_.size() == kWriteBytes) flush();
  }
}

void PackedWriter::put_zeros(std::uint64_t end) {
  static constexpr std::byte kZeros[kPackedBlock] = {};
  assert(end - position_ <= sizeof(kZeros));
  put(kZeros, static_cast<std::size_t>(end - position_));
}

void PackedWriter::flush() {
  assert(waiting_.size() % kPackedBlock == 0);
  for (std::size_t at = 0; at < waiting_.size(); at += kPackedBlock) {
    sums_.push_back(sum_of(waiting_.data() + at));
  }
  write(waiting_.data(), waiting_.size());
  waiting_.clear();
}

void PackedWriter::write(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ::ssize_t count = ::write(descriptor_, from, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("write", count < 0 ? errno : EIO);
    from += count;
    bytes -= static_cast<std::size_t>(count);
    written_ += static_cast<std::uint64_t>(count);
  }
}

void PackedWriter::fail(const char* what, int error) const {
  const std::filesystem::path folder = path_.parent_path();
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    const std::uint64_t there = free_disk_bytes(folder);
    throw CapacityError(
        fmt::format("cannot {} {}: {} bytes ({}) are wanted but folder {} has {} bytes ({}) free; "
                    "free some, or "
                    "choose another folder with --packed-dir (io.packed_directory)",
                    what, path_.string(), layout_.file_bytes(), human_bytes(layout_.file_bytes()),
                    folder.string(), there, human_bytes(there)));
  }
  throw IoError(
      fmt::format("cannot {} {} of {} bytes, at offset {}: {}; check the folder, or choose another "
                  "with --packed-dir (io.packed_directory)",
                  what, path_.string(), layout_.file_bytes(), written_, errno_text(error)));
}

void remove_dead_temporaries(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::filesystem::path path = entry->path();
    if (!is_temporary(path.filename().string())) continue;
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) continue;  // its packer was faster
    if (lock_without_waiting(descriptor) == 0) ::unlink(path.c_str());
    ::close(descriptor);
  }
}

}  // namespace sluice::offload
