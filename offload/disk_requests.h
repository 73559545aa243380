// What every disk engine shares: the table of files, the fixed pool of requests, their cutting into
// pieces, and their completion. Seen by the engines and by doubles of them in tests, by nobody
// else.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "offload/disk_engine.h"

namespace sluice::offload {

/// The largest piece of a read or write: several pieces of one request are in flight at a time.
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

struct IoFailure {
  bool no_space = false;  // wait() throws CapacityError, else IoError
  std::string sentence;
};

/// How engines move a group. Any thread.
struct DiskEngineAccess {
  static void start(IoGroup& group, std::int32_t requests);
  /// Keeps the first failure of the group; comes before the finish() of its request.
  static void fail(IoGroup& group, IoFailure failure);
  /// One request is over; the group may be gone when this returns.
  static void finish(IoGroup& group);
};

/// One piece on its way. `operation` is the room an engine keeps its own record of it in, so that
/// nothing is allocated per request.
struct DiskRequest {
  bool write = false;
  FileId file = -1;
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::size_t done = 0;
  IoGroup* group = nullptr;
  DiskRequest* next = nullptr;  // in whatever list it is in
  alignas(64) std::byte operation[512];
};

class RequestEngine : public DiskEngine {
 public:
  ~RequestEngine() override;  // closes the files; drain() must have been called

  FileId open_read(const std::filesystem::path& path) override;
  FileId create(const std::filesystem::path& path, std::uint64_t bytes) override;
  void read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override;
  void write(FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
             IoGroup& group) override;

 protected:
  explicit RequestEngine(const DiskOptions& options);

  /// Moves bytes [done, bytes) of `request` and reports to transferred(). Any thread, also from
  /// within transferred()'s caller.
  virtual void start(DiskRequest& request) = 0;
  /// A file is there, before its first request.
  virtual void opened(FileId file, int descriptor);

  /// What a system call made of the rest of `request`: `error` is 0 or an errno, `bytes` counts
  /// what it moved. True: the request is over and given back. False: start() it again for the rest.
  bool transferred(DiskRequest& request, int error, std::size_t bytes);
  /// Blocks until no request is in flight. For destructors of engines, before their threads end.
  void drain();

 private:
  struct File {
    std::filesystem::path path;
    int descriptor = -1;
  };
  // When requests of one direction are in flight: the union of their times is what the trace gets.
  struct Flight {
    Activity activity;
    std::mutex mutex = {};
    std::int64_t count = 0;
    std::int64_t begin_ns = 0;
  };

  FileId add_file(const std::filesystem::path& path, int descriptor);
  const File& file(FileId id);
  void submit(bool write, FileId file, std::uint64_t offset, std::size_t bytes, std::byte* data,
              IoGroup& group);
  DiskRequest& take_request();
  void give_back(DiskRequest& request);
  void took_off(Flight& flight);
  void landed(Flight& flight, std::size_t bytes);
  IoFailure describe(const DiskRequest& request, int error);

  Trace* trace_;
  Flight reads_{Activity::disk_read};
  Flight writes_{Activity::disk_write};

  std::mutex files_mutex_;
  std::vector<std::unique_ptr<File>> files_;

  std::mutex pool_mutex_;
  std::condition_variable pool_changed_;
  std::vector<DiskRequest> requests_;
  DiskRequest* free_ = nullptr;
  std::size_t free_count_ = 0;
};

/// The engine of blocking calls; `reason` says why it is this one ("io_uring switched off").
std::unique_ptr<DiskEngine> make_thread_engine(const DiskOptions& options, std::string reason);

/// "No space left on device (ENOSPC)".
std::string errno_text(int error);
/// Bytes an unprivileged user may still write in `folder`; 0 when that cannot be found out.
std::uint64_t free_disk_bytes(const std::filesystem::path& folder);

}  // namespace sluice::offload
