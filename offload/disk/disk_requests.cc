#include "offload/disk/disk_requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/device/error.h"

namespace sluice::offload {

namespace {

constexpr auto kMostOffset = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
constexpr std::int64_t kLongestSpanNs = 10'000'000;
constexpr std::size_t kBounceBytes = std::size_t{1} << 20;

std::uint64_t block_at(std::uint64_t offset) { return offset / kDiskBlock * kDiskBlock; }
bool begins_block(const void* place) {
  return reinterpret_cast<std::uintptr_t>(place) % kDiskBlock == 0;
}

// What of the requester's bytes was moved.
std::size_t got(const DiskRequest& request) {
  return std::min(request.wanted, request.done - std::min(request.done, request.skip));
}

IoFailure describe(const DiskRequest& request, int error) {
  const std::filesystem::path& path = request.of->path();
  std::string sentence = fmt::format("cannot {} {} at offset {}: wanted {} bytes, got {}, ",
                                     request.write ? "write" : "read", path.string(),
                                     request.offset + request.skip, request.wanted, got(request));
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

}  // namespace

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
    : trace_(options.trace),
      options_(options),
      clock_(options.clock != nullptr ? *options.clock : steady_clock_),
      reads_{Activity::disk_read, RateLimit(options.read_gbps)},
      writes_{Activity::disk_write, RateLimit(options.write_gbps)},
      bounce_(kDiskBounceBytes / kBounceBytes, kBounceBytes),
      requests_(std::max<std::size_t>(1, options.max_requests)) {
  for (DiskRequest& request : requests_) {
    request.next = free_;
    free_ = &request;
  }
  free_count_ = requests_.size();
  if (reads_.limit.limits() || writes_.limit.limits()) {
    delay_ = std::make_unique<DelayLine>(clock_, [this](DiskRequest& late) { release(late); });
  }
}

RequestEngine::~RequestEngine() { assert(free_count_ == requests_.size()); }

void RequestEngine::opened(FileId, int) {}

std::string RequestEngine::description() const {
  std::size_t direct = 0;
  std::size_t cached = 0;
  const DiskFile* example = nullptr;
  const std::lock_guard lock(files_mutex_);
  for (const auto& file : files_) {
    if (file->direct()) {
      ++direct;
      continue;
    }
    if (example == nullptr || (example->is_small() && !file->is_small())) example = file.get();
    if (!file->is_small()) ++cached;
  }
  if (files_.empty()) return kind();
  if (cached == 0 && direct > 0) return kind() + ", direct";
  if (direct == 0) return fmt::format("{}, through the page cache ({})", kind(), example->reason());
  return fmt::format("{}, {} files direct and {} through the page cache ({})", kind(), direct,
                     cached, example->reason());
}

FileId RequestEngine::add_file(std::unique_ptr<DiskFile> file) {
  const int descriptor = file->descriptor();
  FileId id = -1;
  {
    const std::lock_guard lock(files_mutex_);
    files_.push_back(std::move(file));
    id = static_cast<FileId>(files_.size() - 1);
  }
  opened(id, descriptor);
  return id;
}

DiskFile& RequestEngine::file(FileId id) {
  const std::lock_guard lock(files_mutex_);
  assert(id >= 0 && static_cast<std::size_t>(id) < files_.size());
  return *files_[static_cast<std::size_t>(id)];
}

FileId RequestEngine::open_read(const std::filesystem::path& path) {
  return add_file(DiskFile::open_read(path, options_));
}

FileId RequestEngine::open_read_checked(const std::filesystem::path& path,
                                        std::span<const std::uint32_t> sums) {
  return add_file(DiskFile::open_read_checked(path, sums, options_));
}

FileId RequestEngine::create(const std::filesystem::path& path, std::uint64_t bytes) {
  return add_file(DiskFile::create(path, bytes, options_));
}

std::uint64_t RequestEngine::checksum_bytes() const {
  const std::lock_guard lock(files_mutex_);
  std::uint64_t sum = 0;
  for (const auto& file : files_) sum += file->checksum_bytes();
  return sum;
}

// ---------------------------------------------------------------------------------------- requests

void RequestEngine::read(FileId id, std::uint64_t offset, std::size_t bytes, void* target,
                         IoGroup& group) {
  submit(
      {false, id, file(id), offset, offset + bytes, static_cast<std::byte*>(target), false, group});
}

void RequestEngine::read_superset(FileId id, std::uint64_t offset, std::size_t bytes, void* room,
                                  IoGroup& group) {
  assert(begins_block(room));
  submit({false, id, file(id), offset, offset + bytes,
          static_cast<std::byte*>(room) + offset % kDiskBlock, true, group});
}

void RequestEngine::write(FileId id, std::uint64_t offset, std::size_t bytes, const void* source,
                          IoGroup& group) {
  DiskFile& target = file(id);
  // Part of a block would leave the rest of it without a checksum.
  assert(!target.created() || (offset % kDiskBlock == 0 && bytes % kDiskBlock == 0 &&
                               offset <= target.bytes() && bytes <= target.bytes() - offset));
  // A request of either direction looks the same; a write only ever reads its `data`.
  submit({true, id, target, offset, offset + bytes,
          static_cast<std::byte*>(const_cast<void*>(source)), false, group});
}

void RequestEngine::submit(Transfer transfer) {
  const std::uint64_t bytes = transfer.end - transfer.offset;  // right even where `end` wrapped
  if (bytes == 0) return;
  if (transfer.offset > kMostOffset || bytes > kMostOffset - transfer.offset) {
    DiskEngineAccess::fail(
        transfer.group,
        {false, fmt::format("cannot {} {} at offset {}: {} bytes reach beyond what a file can "
                            "hold; check the file that named this extent",
                            transfer.write ? "write" : "read", transfer.file.path().string(),
                            transfer.offset, bytes)});
    return;
  }
  const DiskFile& file = transfer.file;
  // One more than there are pieces: pending() must not touch 0 before the last is on its way.
  DiskEngineAccess::start(transfer.group, 1);
  for (std::uint64_t begin = transfer.offset; begin < transfer.end;) {
    const Piece piece = transfer.write                    ? write_piece(transfer, begin)
                        : file.direct() || file.checked() ? read_piece(transfer, begin)
                                                          : exact_piece(transfer, begin);
    put(transfer, piece);
    begin += piece.wanted;
  }
  DiskEngineAccess::finish(transfer.group);
}

RequestEngine::Piece RequestEngine::exact_piece(const Transfer& transfer,
                                                std::uint64_t begin) const {
  const std::size_t bytes = std::min<std::uint64_t>(kPieceBytes, transfer.end - begin);
  return {begin, bytes, 0, bytes, transfer.data + (begin - transfer.offset), nullptr};
}

// The blocks from the one of `begin` on: straight to their place where that has room for all of
// them and, for direct reads, begins with a block; else by a bounce buffer.
RequestEngine::Piece RequestEngine::read_piece(const Transfer& transfer,
                                               std::uint64_t begin) const {
  const std::uint64_t block = block_at(begin);
  std::byte* const target = transfer.data + (begin - transfer.offset);
  std::byte* const place = target - (begin - block);
  const bool fits = transfer.has_room || (begin == block && transfer.end - block >= kDiskBlock);
  const bool straight = !transfer.file.direct() || begins_block(place);
  Piece piece;
  piece.offset = block;
  piece.skip = begin - block;
  std::uint64_t stop = transfer.end;
  if (fits && straight) {
    stop = std::min(stop, block + kPieceBytes);
    if (!transfer.has_room) stop = block_at(stop);
    piece.data = place;
  } else {
    stop = std::min(stop, block + (straight ? kDiskBlock : kBounceBytes));
    piece.target = target;
  }
  piece.wanted = stop - begin;
  piece.bytes = round_to_blocks(stop) - block;
  return piece;
}

RequestEngine::Piece RequestEngine::write_piece(const Transfer& transfer,
                                                std::uint64_t begin) const {
  Piece piece = exact_piece(transfer, begin);
  if (!transfer.file.created() || !transfer.file.direct() || begins_block(piece.data)) return piece;
  piece.bytes = piece.wanted = std::min(piece.bytes, kBounceBytes);
  piece.target = std::exchange(piece.data, nullptr);
  return piece;
}

void RequestEngine::put(const Transfer& transfer, const Piece& piece) {
  // The buffer first: whoever waits for one must not keep a request from those that hold buffers.
  std::byte* const bounce = piece.data == nullptr ? bounce_.take() : nullptr;
  DiskRequest& request = take_request();
  DiskFile& file = transfer.file;
  request.write = transfer.write;
  request.file = transfer.id;
  request.of = &file;
  request.descriptor = file.descriptor();
  request.offset = piece.offset;
  request.data = bounce != nullptr ? bounce : piece.data;
  request.bytes = piece.bytes;
  request.done = 0;
  request.needed = piece.skip + piece.wanted;
  request.skip = piece.skip;
  request.wanted = piece.wanted;
  request.bounce = bounce;
  request.target = piece.target;
  request.group = &transfer.group;
  if (transfer.write) {
    if (bounce != nullptr) std::memcpy(bounce, piece.target, piece.bytes);
    if (file.created()) file.note(piece.offset, {request.data, piece.bytes});
  } else if (file.checked() && file.bytes() > piece.offset) {
    // Whole blocks, or as far as the file goes.
    request.needed = std::max(request.needed, static_cast<std::size_t>(std::min<std::uint64_t>(
                                                  piece.bytes, file.bytes() - piece.offset)));
  }
  DiskEngineAccess::start(transfer.group, 1);
  took_off(request);
  start(request);
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
  // A direct read that ends within a block has met the end of the file, and cannot ask again there.
  const bool ended = bytes == 0 || (request.of->direct() && bytes % kDiskBlock != 0);
  if (error == 0 && !ended && request.done < request.needed) return false;

  std::optional<IoFailure> failure;
  if (error != 0 || request.done < request.needed) {
    failure = describe(request, error);
  } else if (!request.write) {
    failure = arrived(request);
  }
  if (failure) DiskEngineAccess::fail(*request.group, std::move(*failure));
  if (request.bounce != nullptr) bounce_.give_back(request.bounce);
  if (request.due_ns > 0) {
    delay_->hold(request);
  } else {
    release(request);
  }
  return true;
}

// Verifies what was read and puts it where it belongs.
std::optional<IoFailure> RequestEngine::arrived(const DiskRequest& request) {
  const DiskFile& file = *request.of;
  file.forget(request.offset, request.done);
  if (file.checked()) {
    const auto wrong = file.first_wrong_block(request.offset, {request.data, request.needed});
    if (wrong) {
      return IoFailure{
          false, fmt::format("{}, offset {}: the checksum of this block does not match; the disk "
                             "or another program changed it: {}",
                             file.path().string(), *wrong,
                             file.created() ? "check the disk and the system log, and run again"
                                            : "remove the file, to have it made again")};
    }
  }
  if (request.bounce != nullptr) {
    std::memcpy(request.target, request.data + request.skip, request.wanted);
  }
  return std::nullopt;
}

void RequestEngine::release(DiskRequest& request) {
  IoGroup& group = *request.group;
  landed(request);
  give_back(request);
  DiskEngineAccess::finish(group);
}

void RequestEngine::took_off(DiskRequest& request) {
  Flight& flight = flight_of(request);
  request.due_ns = 0;
  if (trace_ == nullptr && !flight.limit.limits()) return;
  const std::lock_guard lock(flight.mutex);
  if (flight.limit.limits()) {
    request.due_ns = flight.limit.due_ns(clock_.now_ns(), request.wanted);
  }
  if (trace_ != nullptr && flight.count++ == 0) flight.begin_ns = trace_->now_ns();
}

void RequestEngine::landed(const DiskRequest& request) {
  if (trace_ == nullptr) return;
  Flight& flight = flight_of(request);
  trace_->add_bytes(flight.activity, got(request));
  const std::lock_guard lock(flight.mutex);
  const std::int64_t now = trace_->now_ns();
  // A disk that is never idle is accounted for from time to time, too.
  if (--flight.count == 0 || now - flight.begin_ns > kLongestSpanNs) {
    trace_->add(flight.activity, flight.begin_ns, now);
    flight.begin_ns = now;
  }
}

}  // namespace sluice::offload
