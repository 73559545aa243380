// What every disk engine shares: the table of files, the fixed pool of requests, their cutting into
// pieces (around blocks where they must be), and their completion. Seen by the engines and by
// doubles of them in tests, by nobody else.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "offload/disk/disk_bounce.h"
#include "offload/disk/disk_engine.h"
#include "offload/disk/disk_file.h"
#include "offload/disk/disk_rate.h"

namespace sluice::offload {

/// The largest piece of a read or write: several pieces of one request are in flight at a time.
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

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

/// One piece on its way. Bytes [done, bytes) at offset + done and data + done are what is still to
/// be moved; of them `wanted` from `skip` on are the requester's. `operation` is the room an engine
/// keeps its own record of it in, so that nothing is allocated per request.
struct DiskRequest {
  bool write = false;
  FileId file = -1;
  DiskFile* of = nullptr;
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::size_t done = 0;
  std::size_t needed = 0;  // of `bytes`: a read around blocks may end with the file
  std::size_t skip = 0;
  std::size_t wanted = 0;
  std::byte* bounce = nullptr;  // `data` is this, and
  std::byte* target = nullptr;  // what was read is copied there
  std::int64_t due_ns = 0;      // not finished before; 0: at once
  IoGroup* group = nullptr;
  DiskRequest* next = nullptr;  // in whatever list it is in
  alignas(64) std::byte operation[512];
};

class RequestEngine : public DiskEngine {
 public:
  ~RequestEngine() override;  // closes the files; drain() must have been called

  std::string description() const final;
  FileId open_read(const std::filesystem::path& path) override;
  FileId open_read_checked(const std::filesystem::path& path,
                           std::span<const std::uint32_t> sums) override;
  FileId create(const std::filesystem::path& path, std::uint64_t bytes) override;
  std::uint64_t checksum_bytes() const override;
  void read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override;
  void read_superset(FileId file, std::uint64_t offset, std::size_t bytes, void* room,
                     IoGroup& group) override;
  void write(FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
             IoGroup& group) override;

 protected:
  explicit RequestEngine(const DiskOptions& options);

  /// "io_uring".
  virtual std::string kind() const = 0;
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
  // When requests of one direction are in flight: the union of their times is what the trace gets.
  struct Flight {
    Activity activity;
    RateLimit limit;
    std::mutex mutex = {};
    std::int64_t count = 0;
    std::int64_t begin_ns = 0;
  };
  // What is read or written and how, while it is cut into pieces.
  struct Transfer {
    bool write = false;
    FileId id = -1;
    DiskFile& file;
    std::uint64_t offset = 0;
    std::uint64_t end = 0;
    std::byte* data = nullptr;  // of `offset`
    bool has_room = false;      // for whole blocks around the range
    IoGroup& group;
  };
  struct Piece {
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
    std::size_t skip = 0;
    std::size_t wanted = 0;
    std::byte* data = nullptr;    // null: a bounce buffer
    std::byte* target = nullptr;  // where that is copied to or from
  };

  FileId add_file(std::unique_ptr<DiskFile> file);
  DiskFile& file(FileId id);
  void submit(Transfer transfer);
  Piece exact_piece(const Transfer& transfer, std::uint64_t begin) const;
  Piece read_piece(const Transfer& transfer, std::uint64_t begin) const;
  Piece write_piece(const Transfer& transfer, std::uint64_t begin) const;
  void put(const Transfer& transfer, const Piece& piece);
  std::optional<IoFailure> arrived(const DiskRequest& request);
  void release(DiskRequest& request);
  DiskRequest& take_request();
  void give_back(DiskRequest& request);
  void took_off(DiskRequest& request);
  void landed(const DiskRequest& request);
  Flight& flight_of(const DiskRequest& request) { return request.write ? writes_ : reads_; }

  Trace* trace_;
  DiskOptions options_;
  SteadyDiskClock steady_clock_;
  DiskClock& clock_;
  Flight reads_;
  Flight writes_;
  BouncePool bounce_;
  std::unique_ptr<DelayLine> delay_;

  mutable std::mutex files_mutex_;
  std::vector<std::unique_ptr<DiskFile>> files_;

  std::mutex pool_mutex_;
  std::condition_variable pool_changed_;
  std::vector<DiskRequest> requests_;
  DiskRequest* free_ = nullptr;
  std::size_t free_count_ = 0;
};

/// The engine of blocking calls; `reason` says why it is this one ("io_uring switched off").
std::unique_ptr<DiskEngine> make_thread_engine(const DiskOptions& options, std::string reason);

}  // namespace sluice::offload
