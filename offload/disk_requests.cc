#include "offload/disk_requests.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "kernels/device/error.h"
#include "offload/memory_plan.h"

namespace sluice::offload {

namespace {

constexpr auto kMostOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());

bool out_of_space(int error) { return error == ENOSPC || error == EDQUOT; }

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

}  // namespace

std::string errno_text(int error) {
  const char* name = ::strerrorname_np(error);
  return fmt::format("{} ({})", std::generic_category().message(error),
                     name != nullptr ? name : std::to_string(error));
}

std::uint64_t free_disk_bytes(const std::filesystem::path& folder) {
  struct statvfs disk;
  if (::statvfs(folder.c_str(), &disk) != 0) return 0;
  return std::uint64_t{disk.f_bavail} * disk.f_frsize;
}

// ------------------------------------------------------------------------------------------ groups

namespace {

void await_none(const std::atomic<std::int32_t>& pending) {
  for (std::int32_t left = pending.load(std::memory_order_acquire); left != 0;
       left = pending.load(std::memory_order_acquire)) {
    pending.wait(left, std::memory_order_acquire);
  }
}

}  // namespace

IoGroup::~IoGroup() {
  await_none(pending_);
  delete failure_.load(std::memory_order_acquire);
}

void IoGroup::wait() {
  await_none(pending_);
  const std::unique_ptr<const IoFailure> failure(failure_.exchange(nullptr));
  if (failure == nullptr) return;
  if (failure->no_space) throw CapacityError(failure->sentence);
  throw IoError(failure->sentence);
}

void DiskEngineAccess::start(IoGroup& group, std::int32_t requests) {
  group.pending_.fetch_add(requests, std::memory_order_relaxed);
}

void DiskEngineAccess::fail(IoGroup& group, IoFailure failure) {
  auto kept = std::make_unique<const IoFailure>(std::move(failure));
  const IoFailure* none = nullptr;
  if (group.failure_.compare_exchange_strong(none, kept.get())) static_cast<void>(kept.release());
}

void DiskEngineAccess::finish(IoGroup& group) {
  // notify_all() after the last decrement only uses the address, as a name in the kernel's table of
  // waiters, so the waiter may have destroyed the group by then.
  std::atomic<std::int32_t>& pending = group.pending_;
  if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_all();
}

// ------------------------------------------------------------------------------------------- files

RequestEngine::RequestEngine(const DiskOptions& options)
    : trace_(options.trace), requests_(std::max<std::size_t>(1, options.max_requests)) {
  for (DiskRequest& request : requests_) {
    request.next = free_;
    free_ = &request;
  }
  free_count_ = requests_.size();
}

RequestEngine::~RequestEngine() {
  assert(free_count_ == requests_.size());
  for (const auto& file : files_) ::close(file->descriptor);
}

void RequestEngine::opened(FileId, int) {}

FileId RequestEngine::add_file(const std::filesystem::path& path, int descriptor) {
  FileId id = -1;
  {
    const std::lock_guard lock(files_mutex_);
    files_.push_back(std::make_unique<File>(File{path, descriptor}));
    id = static_cast<FileId>(files_.size() - 1);
  }
  opened(id, descriptor);
  return id;
}

const RequestEngine::File& RequestEngine::file(FileId id) {
  const std::lock_guard lock(files_mutex_);
  assert(id >= 0 && static_cast<std::size_t>(id) < files_.size());
  return *files_[static_cast<std::size_t>(id)];
}

FileId RequestEngine::open_read(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must not hang; taken away again below, as io_uring would answer
  // EAGAIN.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw InputError(fmt::format("cannot open {}: {}; check the path and its permissions",
                                 path.string(), errno_text(errno)));
  }
  struct stat status;
  const bool known = ::fstat(descriptor, &status) == 0;
  if (!known || !S_ISREG(status.st_mode) || ::fcntl(descriptor, F_SETFL, 0) != 0) {
    const std::string problem =
        known && !S_ISREG(status.st_mode) ? "it is no regular file" : errno_text(errno);
    ::close(descriptor);
    throw InputError(
        fmt::format("cannot read {}: {}; name a file of the model", path.string(), problem));
  }
  return add_file(path, descriptor);
}

FileId RequestEngine::create(const std::filesystem::path& path, std::uint64_t bytes) {
  if (bytes > kMostOffset) throw no_room(path, bytes);
  const int descriptor =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (descriptor < 0) {
    if (out_of_space(errno)) throw no_room(path, bytes);
    throw IoError(fmt::format("cannot create {} of {} bytes: {}; choose another folder",
                              path.string(), bytes, errno_text(errno)));
  }
  const int error = preallocate(descriptor, bytes);
  if (error != 0) {
    ::close(descriptor);
    ::unlink(path.c_str());
    if (out_of_space(error) || error == EFBIG) throw no_room(path, bytes);
    throw IoError(fmt::format("cannot reserve {} bytes for {}: {}; choose another folder", bytes,
                              path.string(), errno_text(error)));
  }
  return add_file(path, descriptor);
}

// ---------------------------------------------------------------------------------------- requests

void RequestEngine::read(FileId file, std::uint64_t offset, std::size_t bytes, void* target,
                         IoGroup& group) {
  submit(false, file, offset, bytes, static_cast<std::byte*>(target), group);
}

void RequestEngine::write(FileId file, std::uint64_t offset, std::size_t bytes, const void* source,
                          IoGroup& group) {
  // A request of either direction looks the same; a write only ever reads its `data`.
  submit(true, file, offset, bytes, static_cast<std::byte*>(const_cast<void*>(source)), group);
}

void RequestEngine::submit(bool write, FileId id, std::uint64_t offset, std::size_t bytes,
                           std::byte* data, IoGroup& group) {
  const File& target = file(id);
  if (bytes == 0) return;
  if (offset > kMostOffset || bytes > kMostOffset - offset) {
    DiskEngineAccess::fail(
        group,
        {false, fmt::format("cannot {} {} at offset {}: {} bytes reach beyond what a file can "
                            "hold; check the file that named this extent",
                            write ? "write" : "read", target.path.string(), offset, bytes)});
    return;
  }
  const std::size_t pieces = (bytes - 1) / kPieceBytes + 1;
  // All pieces are counted before the first can finish: pending() must not touch 0 in between.
  DiskEngineAccess::start(group, static_cast<std::int32_t>(pieces));
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    const std::size_t begin = piece * kPieceBytes;
    DiskRequest& request = take_request();
    request.write = write;
    request.file = id;
    request.descriptor = target.descriptor;
    request.offset = offset + begin;
    request.data = data + begin;
    request.bytes = std::min(kPieceBytes, bytes - begin);
    request.done = 0;
    request.group = &group;
    took_off(write ? writes_ : reads_);
    start(request);
  }
}

DiskRequest& RequestEngine::take_request() {
  std::unique_lock lock(pool_mutex_);
  pool_changed_.wait(lock, [this] { return free_ != nullptr; });
  DiskRequest& request = *free_;
  free_ = request.next;
  --free_count_;
  return request;
}

void RequestEngine::give_back(DiskRequest& request) {
  const std::lock_guard lock(pool_mutex_);
  request.next = free_;
  free_ = &request;
  ++free_count_;
  pool_changed_.notify_all();
}

void RequestEngine::drain() {
  std::unique_lock lock(pool_mutex_);
  pool_changed_.wait(lock, [this] { return free_count_ == requests_.size(); });
}

bool RequestEngine::transferred(DiskRequest& request, int error, std::size_t bytes) {
  if (error == EINTR || error == EAGAIN) return false;
  request.done += bytes;
  const bool stuck = error != 0 || bytes == 0;
  if (!stuck && request.done < request.bytes) return false;

  IoGroup& group = *request.group;
  if (stuck) DiskEngineAccess::fail(group, describe(request, error));
  landed(request.write ? writes_ : reads_, request.done);
  give_back(request);
  DiskEngineAccess::finish(group);
  return true;
}

void RequestEngine::took_off(Flight& flight) {
  if (trace_ == nullptr) return;
  const std::lock_guard lock(flight.mutex);
  if (flight.count++ == 0) flight.begin_ns = trace_->now_ns();
}

void RequestEngine::landed(Flight& flight, std::size_t bytes) {
  if (trace_ == nullptr) return;
  trace_->add_bytes(flight.activity, bytes);
  const std::lock_guard lock(flight.mutex);
  if (--flight.count == 0) trace_->add(flight.activity, flight.begin_ns, trace_->now_ns());
}

IoFailure RequestEngine::describe(const DiskRequest& request, int error) {
  const std::filesystem::path& path = file(request.file).path;
  std::string sentence = fmt::format("cannot {} {} at offset {}: wanted {} bytes, got {}, ",
                                     request.write ? "write" : "read", path.string(),
                                     request.offset, request.bytes, request.done);
  if (error == 0) {
    sentence += request.write ? "and no more is taken; check the disk"
                              : "then the file ends; it is shorter than it should be, so fetch or "
                                "write it anew";
  } else if (out_of_space(error)) {
    sentence += fmt::format("{}; {} bytes are free there: free some or choose another folder",
                            errno_text(error), free_disk_bytes(path.parent_path()));
  } else {
    sentence += fmt::format("{}; check the disk and the system log", errno_text(error));
  }
  return {out_of_space(error), std::move(sentence)};
}

}  // namespace sluice::offload
