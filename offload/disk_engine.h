// Reads and writes of files beside everything else: Boost.Asio on io_uring where the kernel allows
// it, on a thread pool where it does not (seccomp, old kernels); which one is chosen at run time.
// The only file that knows Asio is disk_engine.cc; what both variants share is disk_requests.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device/trace.h"

namespace sluice::offload {

using FileId = std::int32_t;
struct IoFailure;  // offload/disk_requests.h

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
  std::size_t max_requests = 256;  // in flight, of at most 4 MiB each; more block the requester
  bool allow_direct = true;        // false: through the page cache
  double read_gbps = 0;            // in 10^9 bytes per second; 0: as fast as the disk is
  double write_gbps = 0;
  Trace* trace = nullptr;
};

class DiskEngine {
 public:
  static std::unique_ptr<DiskEngine> make(const DiskOptions& options);
  virtual ~DiskEngine() = default;  // waits for requests in flight

  /// "io_uring", "threads (io_uring refused: Operation not permitted)" or "threads (io_uring
  /// switched off)".
  virtual std::string description() const = 0;

  /// An existing file, to read. Throws InputError if it cannot be opened or is no regular file.
  virtual FileId open_read(const std::filesystem::path& path) = 0;
  /// A new file of `bytes`, preallocated, mode 0600, read and write. Throws CapacityError if the
  /// disk lacks the space (bytes wanted, bytes free, folder), IoError otherwise.
  virtual FileId create(const std::filesystem::path& path, std::uint64_t bytes) = 0;

  /// All of [offset, offset + bytes); a short file is a failure. Any alignment. Does not allocate
  /// after start-up; blocks only while max_requests are in flight. `target`/`source` must stay
  /// valid until the group's pending() is 0. Any thread.
  virtual void read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
                    IoGroup& group) = 0;
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
