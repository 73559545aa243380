// Reads and writes of files beside everything else: Boost.Asio on io_uring where the kernel allows
// it, on a thread pool where it does not (seccomp, old kernels); past the page cache (O_DIRECT)
// where the file system takes that, through it and dropping behind where it does not. Both are
// chosen at run time, the second for each file. The only file that knows Asio is disk_engine.cc;
// what both variants share is disk_requests.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/device/trace.h"

namespace sluice::offload {

using FileId = std::int32_t;
struct IoFailure;  // offload/disk/disk_requests.h
class DiskClock;   // offload/disk/disk_rate.h

/// Direct reads and writes move whole blocks of so many bytes, and a checksum is one block's.
constexpr std::size_t kDiskBlock = 4096;

constexpr std::uint64_t round_to_blocks(std::uint64_t bytes) {
  return (bytes + kDiskBlock - 1) / kDiskBlock * kDiskBlock;
}
/// Bytes that read_superset() may write for a range of `bytes`, wherever in a file it begins.
constexpr std::uint64_t superset_room(std::uint64_t bytes) {
  return round_to_blocks(bytes) + kDiskBlock;
}

/// The checksum of a block, of which the last of a file may be shorter: the low 32 bits of XXH3-64.
std::uint32_t block_sum(std::span<const std::byte> block);

/// Counts requests in flight and keeps the first failure. Reused for ever; owned by the requester
/// and must outlive its requests. Once `pending()` is 0 the bytes are there, until the next
/// request.
class IoGroup {
 public:
  IoGroup() = default;
  IoGroup(const IoGroup&) = delete;
  IoGroup& operator=(const IoGroup&) = delete;
  ~IoGroup();  // waits for requests in flight; a failure nobody waited for is dropped

  /// Requests not yet complete.
  std::int32_t pending() const { return pending_.load(std::memory_order_acquire); }
  /// Blocks until pending() == 0; throws IoError (path, offset, bytes, errno's name) or
  /// CapacityError (ENOSPC) if one of them failed since the last wait: the first one, which is then
  /// forgotten.
  void wait();

 private:
  friend class DiskEngine;
  friend struct DiskEngineAccess;  // for the implementations
  std::atomic<std::int32_t> pending_{0};
  std::atomic<const IoFailure*> failure_{nullptr};
};

struct DiskOptions {
  bool allow_io_uring = true;  // false: the thread pool, for tests
  int threads = 2;
  std::size_t max_requests = 256;  // in flight, of at most kPieceBytes; more block the requester
  bool allow_direct = true;        // false: through the page cache
  /// Smaller files go through the page cache: they cannot fill it, and have often just been there.
  std::uint64_t least_direct_bytes = std::uint64_t{16} << 20;
  double read_gbps = 0;  // in 10^9 bytes per second; 0: as fast as the disk is
  double write_gbps = 0;
  Trace* trace = nullptr;
  DiskClock* clock = nullptr;  // that the two limits are kept by; null: the machine's
};

/// Bounce buffers of an engine: memory of its own, taken once and in no plan.
constexpr std::size_t kDiskBounceBytes = std::size_t{8} << 20;

class DiskEngine {
 public:
  static std::unique_ptr<DiskEngine> make(const DiskOptions& options);
  virtual ~DiskEngine() = default;  // waits for requests in flight

  /// How it reads: "io_uring", "threads (io_uring refused: Operation not permitted)" or "threads
  /// (io_uring switched off)"; and once files are open: ", direct", or ", through the page cache
  /// (O_DIRECT refused for FILE: Invalid argument (EINVAL))", or both with the count of each. Small
  /// files are not spoken of where there are larger ones.
  virtual std::string description() const = 0;

  /// An existing file, to read. Throws InputError if it cannot be opened or is no regular file.
  virtual FileId open_read(const std::filesystem::path& path) = 0;
  /// The same for a file of an earlier run: `sums` has the block_sum() of its blocks from the first
  /// on (those behind the last sum, such as a footer, are not verified) and stays alive as long as
  /// the engine. Every block is verified when it was read; one that does not match is an IoError of
  /// the group. Throws InputError also where there are more sums than blocks.
  virtual FileId open_read_checked(const std::filesystem::path& path,
                                   std::span<const std::uint32_t> sums) = 0;
  /// A new file, preallocated, mode 0600, read and write, of `bytes` rounded up to whole blocks.
  /// The engine keeps the checksum of every block in memory: what is read is what was last written,
  /// or zeros, or an IoError. Throws CapacityError if the disk lacks the space (bytes wanted, bytes
  /// free, folder), IoError otherwise.
  virtual FileId create(const std::filesystem::path& path, std::uint64_t bytes) = 0;
  /// Memory of the checksums of a file of so many bytes, and of all files created so far.
  static constexpr std::uint64_t checksum_bytes(std::uint64_t file_bytes) {
    return round_to_blocks(file_bytes) / kDiskBlock * sizeof(std::uint32_t);
  }
  virtual std::uint64_t checksum_bytes() const = 0;

  /// All of [offset, offset + bytes); a short file is a failure. Any alignment: blocks that cannot
  /// be read to where they belong go through a bounce buffer and are copied. None need to where the
  /// range begins and ends with blocks and `target` is a multiple of kDiskBlock. Does not allocate
  /// after start-up; blocks only while max_requests are in flight or all bounce buffers are in use.
  /// `target`/`source` must stay valid until the group's pending() is 0. Any thread.
  virtual void read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
                    IoGroup& group) = 0;
  /// The same without any copy: all blocks that the range touches come to `room`, a multiple of
  /// kDiskBlock with room for them (superset_room() is always enough). The range itself is then at
  /// room + offset % kDiskBlock.
  virtual void read_superset(FileId file, std::uint64_t offset, std::size_t bytes, void* room,
                             IoGroup& group) {
    read(file, offset, bytes, static_cast<std::byte*>(room) + offset % kDiskBlock, group);
  }
  /// To a file of create(): whole blocks within it. Their checksums are taken before this returns.
  /// Without a copy where `source` is a multiple of kDiskBlock.
  virtual void write(FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
                     IoGroup& group) = 0;
};

/// A folder for one run's files inside `parent` (created 0700 if absent):
/// "sluice-<host>-<pid>-<rank>", locked while the run lives, removed by the destructor. Opening one
/// also removes folders of the same form, owned by the same user, whose run is dead. It holds plain
/// files only, no folders. Foreign files are never touched, symbolic links never followed. Throws
/// IoError naming the folder.
class RunFolder {
 public:
  RunFolder(const std::filesystem::path& parent, int rank);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  /// Removes the folder now, for a process that ends without destructors, while other threads may
  /// use its files: they can still read and write what they opened, but make no new ones. Any
  /// thread; not beside the destructor, which has nothing left to do then.
  void remove() const noexcept;

 private:
  std::filesystem::path path_;
  int lock_ = -1;
};

}  // namespace sluice::offload
