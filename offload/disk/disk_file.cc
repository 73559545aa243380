#include "offload/disk/disk_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "kernels/device/error.h"
#include "offload/disk/disk_engine.h"
#include "offload/memory_plan.h"

namespace sluice::offload {

namespace {

constexpr auto kMostBytes =
    static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) / kDiskBlock * kDiskBlock;

CapacityError no_room(const std::filesystem::path& path, std::uint64_t bytes) {
  const std::filesystem::path folder = path.parent_path().empty() ? "." : path.parent_path();
  const std::uint64_t there = free_disk_bytes(folder);
  return CapacityError(fmt::format(
      "cannot create {}: {} bytes ({}) are wanted but folder {} has {} bytes ({}) free; free some, "
      "choose another folder or move a share to another tier",
      path.string(), bytes, human_bytes(bytes), folder.string(), there, human_bytes(there)));
}

// 0 or an errno.
int preallocate(int descriptor, std::uint64_t bytes) {
  if (bytes == 0) return 0;
  struct statvfs disk;
  if (::fstatvfs(descriptor, &disk) != 0) return errno;
  // Asked first: a file system that is filled to the brim before it refuses harms its other users.
  // Those that count no blocks (f_blocks == 0) are asked by the call itself.
  const std::uint64_t there = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (disk.f_blocks > 0 && bytes > there) return ENOSPC;
  int result = 0;
  do {
    result = ::posix_fallocate(descriptor, 0, static_cast<off_t>(bytes));
  } while (result == EINTR);
  return result;
}

std::uint32_t sum_of_zeros() {
  const std::array<std::byte, kDiskBlock> zeros = {};
  return block_sum(zeros);
}

}  // namespace

std::uint32_t block_sum(std::span<const std::byte> block) {
  return static_cast<std::uint32_t>(XXH3_64bits(block.data(), block.size()));
}

std::string errno_text(int error) {
  const char* name = ::strerrorname_np(error);
  return fmt::format("{} ({})", std::generic_category().message(error),
                     name != nullptr ? name : std::to_string(error));
}

bool out_of_space(int error) { return error == ENOSPC || error == EDQUOT; }

std::uint64_t free_disk_bytes(const std::filesystem::path& folder) {
  struct statvfs disk;
  if (::statvfs(folder.c_str(), &disk) != 0) return 0;
  return std::uint64_t{disk.f_bavail} * disk.f_frsize;
}

DiskFile::DiskFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

DiskFile::~DiskFile() { ::close(descriptor_); }

void DiskFile::choose_path(const DiskOptions& options) {
  small_ = bytes_ < options.least_direct_bytes;
  if (!options.allow_direct || small_) {
    reason_ = small_ ? "small files" : "O_DIRECT switched off";
    return;
  }
  // Some file systems take the flag and refuse the first read, so one is tried. What is asked of
  // them here, a whole page to a page's border, is the most any wants.
  if (::fcntl(descriptor_, F_SETFL, O_DIRECT) == 0) {
    alignas(kDiskBlock) std::array<std::byte, kDiskBlock> probe;
    ssize_t got = 0;
    do {
      got = ::pread(descriptor_, probe.data(), probe.size(), 0);
    } while (got < 0 && errno == EINTR);
    // Other failures than this one are the reader's to meet.
    direct_ = got >= 0 || errno != EINVAL;
    if (direct_) return;
  }
  reason_ = fmt::format("O_DIRECT refused for {}: {}", path_.string(), errno_text(errno));
  if (::fcntl(descriptor_, F_SETFL, 0) != 0) {
    throw IoError(fmt::format("cannot open {} through the page cache: {}; check the file system",
                              path_.string(), errno_text(errno)));
  }
}

std::unique_ptr<DiskFile> DiskFile::open_read(const std::filesystem::path& path,
                                              const DiskOptions& options) {
  // O_NONBLOCK: opening a FIFO must not hang; taken away again below, as io_uring would answer
  // EAGAIN.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw InputError(fmt::format("cannot open {}: {}; check the path and its permissions",
                                 path.string(), errno_text(errno)));
  }
  std::unique_ptr<DiskFile> file(new DiskFile(path, descriptor));
  struct stat status;
  const bool known = ::fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || ::fcntl(descriptor, F_SETFL, 0) != 0) {
    throw InputError(fmt::format(
        "cannot read {}: {}; name a file of the model", path.string(),
        known && !S_ISREG(status.st_mode) ? "it is no regular file" : errno_text(errno)));
  }
  file->bytes_ = static_cast<std::uint64_t>(status.st_size);
  file->choose_path(options);
  return file;
}

std::unique_ptr<DiskFile> DiskFile::open_read_checked(const std::filesystem::path& path,
                                                      std::span<const std::uint32_t> sums,
                                                      const DiskOptions& options) {
  std::unique_ptr<DiskFile> file = open_read(path, options);
  const std::uint64_t blocks = round_to_blocks(file->bytes_) / kDiskBlock;
  if (sums.size() > blocks) {
    throw InputError(
        fmt::format("{} has {} blocks of {} bytes but {} checksums; it was cut off or changed, so "
                    "remove it and "
                    "have it made again",
                    path.string(), blocks, kDiskBlock, sums.size()));
  }
  file->sums_ = sums;
  return file;
}

std::unique_ptr<DiskFile> DiskFile::create(const std::filesystem::path& path, std::uint64_t wanted,
                                           const DiskOptions& options) {
  if (wanted > kMostBytes) throw no_room(path, wanted);
  const std::uint64_t bytes = round_to_blocks(wanted);
  const int descriptor =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (descriptor < 0) {
    if (out_of_space(errno)) throw no_room(path, bytes);
    throw IoError(fmt::format("cannot create {} of {} bytes: {}; choose another folder",
                              path.string(), bytes, errno_text(errno)));
  }
  std::unique_ptr<DiskFile> file(new DiskFile(path, descriptor));
  file->bytes_ = bytes;
  file->created_ = true;
  if (const int error = preallocate(descriptor, bytes); error != 0) {
    ::unlink(path.c_str());
    if (out_of_space(error) || error == EFBIG) throw no_room(path, bytes);
    throw IoError(fmt::format("cannot reserve {} bytes for {}: {}; choose another folder", bytes,
                              path.string(), errno_text(error)));
  }
  file->choose_path(options);
  file->own_sums_.assign(bytes / kDiskBlock, sum_of_zeros());
  file->sums_ = file->own_sums_;
  return file;
}

// Neighbours write their own blocks' sums at the same time, and a reader of a block comes after its
// writer: nobody waits for anybody here.
void DiskFile::note(std::uint64_t offset, std::span<const std::byte> blocks) {
  assert(offset % kDiskBlock == 0 && blocks.size() % kDiskBlock == 0);
  for (std::size_t i = 0; i < blocks.size(); i += kDiskBlock) {
    std::uint32_t& sum = own_sums_[(offset + i) / kDiskBlock];
    std::atomic_ref(sum).store(block_sum(blocks.subspan(i, kDiskBlock)), std::memory_order_relaxed);
  }
}

std::optional<std::uint64_t> DiskFile::first_wrong_block(std::uint64_t offset,
                                                         std::span<const std::byte> blocks) const {
  assert(offset % kDiskBlock == 0);
  for (std::size_t i = 0; i < blocks.size(); i += kDiskBlock) {
    const std::span block = blocks.subspan(i, std::min(kDiskBlock, blocks.size() - i));
    const std::size_t index = (offset + i) / kDiskBlock;
    if (index >= sums_.size()) break;
    const std::uint32_t sum = __atomic_load_n(&sums_[index], __ATOMIC_RELAXED);
    if (block_sum(block) != sum) return offset + i;
  }
  return std::nullopt;
}

void DiskFile::forget(std::uint64_t offset, std::size_t bytes) const {
  if (direct_ || small_) return;
  // A hint: where it is not taken, the cache forgets by itself later.
  static_cast<void>(::posix_fadvise(descriptor_, static_cast<off_t>(offset),
                                    static_cast<off_t>(bytes), POSIX_FADV_DONTNEED));
}

}  // namespace sluice::offload
