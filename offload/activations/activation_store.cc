// GPU batches between layers. Rows of the device and host tier are moved by copies that the
// caller's thread enqueues. Where some rows are at home on disk, a thread of its own does all the
// moving, in the order of close() and prefetch(): a write can only begin when a copy is done, and
// somebody must wait for that. Two staging buffers are between the device and the file.
#include "offload/activations/activation_store.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/device/stall_reason.h"
#include "offload/activations/activation_homes.h"

namespace sluice::offload {

namespace {

using Rows = PerTier<std::int64_t>;

}  // namespace

class ActivationStore::Impl {
 public:
  Impl(Backend& backend, const ActivationShape& shape, const Shares& shares, Arena& device,
       Arena& host, DiskEngine* disk, const RunFolder* folder, Trace* trace)
      : backend_(backend), shape_(shape), shares_(shares), disk_(disk), trace_(trace) {
    const HomeBytes bytes = home_bytes(shape, shares);
    const auto batches = static_cast<std::size_t>(shape.gpu_batches);
    buffers_.resize(all_on_device(shares) ? batches : kSharedBuffers);
    if (shape.adjoining) {
      assert(all_on_device(shares));
      block_ = device.take(batches * bytes.buffer, "activations");
    } else {
      for (Buffer& buffer : buffers_) buffer.data = device.take(bytes.buffer, "activations");
    }
    homes_.resize(batches);
    for (std::size_t b = 0; b < batches; ++b) {
      homes_[b].device = device.take(bytes.tier[0], "activations");
      homes_[b].host = host.take(bytes.tier[1], "activations");
      homes_[b].offset = b * bytes.tier[2];
    }
    if (bytes.tier[2] == 0) return;
    if (disk == nullptr || folder == nullptr) {
      throw ConfigError("policy.activations: a share on disk needs a folder for offloaded data");
    }
    for (Staging& staging : stagings_) {
      staging.data = host.take(bytes.tier[2], "activation staging", kDiskBlock);
    }
    disk_bytes_ = batches * bytes.tier[2];
    file_ = disk->create(folder->path() / "activations", disk_bytes_);
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
    for (const Lane lane : {Lane::compute, Lane::host_to_device, Lane::device_to_host}) {
      try {
        backend_.synchronize(backend_.record(lane));
      } catch (const Error&) {
        // A failed device does no more work, and its users know of the failure.
      }
    }
  }

  TensorView open(std::int32_t gpu_batch, std::int64_t tokens, bool fresh) {
    assert(tokens >= 0 && tokens <= shape_.tokens);
    Buffer* buffer = buffer_of(gpu_batch);
    if (buffer == nullptr) {
      buffer = take_buffer(gpu_batch, tokens);
      assert(buffer != nullptr);  // at most two GPU batches are open or prefetched
      if (!fresh && !all_on_device(shares_)) bring_back(*buffer);
    }
    // A buffer that was prefetched is opened with what it was prefetched for.
    assert(!buffer->open && buffer->tokens == tokens);
    buffer->open = true;
    await_moves(*buffer);
    if (fresh) {
      backend_.wait(Lane::compute, buffer->loaded);  // it may have been prefetched in vain
      for (const Event& use : buffer->uses) backend_.wait(Lane::compute, use);
      // Its rows may have been another's in the pass before.
      if (shape_.adjoining) backend_.wait(Lane::compute, last_read_);
    } else {
      compute_waits(backend_, buffer->loaded, Activity::stall_activations);
      backend_.wait(Lane::device_to_host, buffer->loaded);
    }
    return {buffer->data, shape_.dtype, tokens, shape_.width};
  }

  void lay_out(std::span<const std::int32_t> tokens) {
    assert(shape_.adjoining && tokens.size() == buffers_.size());
    laid_out_ = 0;
    for (std::size_t b = 0; b < tokens.size(); ++b) {
      buffers_[b].data = block_ + static_cast<std::size_t>(laid_out_) * row_bytes();
      laid_out_ += tokens[b];
    }
  }

  TensorView all() const { return {block_, shape_.dtype, laid_out_, shape_.width}; }

  void prefetch(std::int32_t gpu_batch, std::int64_t tokens) {
    if (all_on_device(shares_) || buffer_of(gpu_batch) != nullptr) return;
    Buffer* buffer = take_buffer(gpu_batch, tokens);
    if (buffer != nullptr) bring_back(*buffer);
  }

  std::uint64_t disk_bytes() const { return disk_bytes_; }

  void close(std::int32_t gpu_batch, bool keep, Event read_by) {
    Buffer* buffer = buffer_of(gpu_batch);
    assert(buffer != nullptr && buffer->open);
    buffer->open = false;
    buffer->gpu_batch = -1;
    // Data that stays in its buffer needs no event: Lane::compute works in order. (An event for
    // every layer would cut a device's work into pieces of a layer.)
    if (keep && all_on_device(shares_)) return;
    buffer->uses = {backend_.record(Lane::compute), read_by, Event{}};
    if (read_by.ticket != 0) last_read_ = read_by;
    if (keep) start({Job::Kind::take_home, buffer, gpu_batch, buffer->tokens});
  }

 private:
  // What a buffer's next content has to wait for.
  enum Use : std::size_t { kComputed, kReadBy, kTakenHome, kUseCount };

  struct Buffer {
    std::byte* data = nullptr;
    std::int32_t gpu_batch = -1;  // whose content it holds; -1: free
    std::int64_t tokens = 0;
    bool open = false;
    std::uint64_t taken = 0;                 // when, in takes
    std::int32_t moves = 0;                  // jobs not enqueued yet; guarded by mutex_
    std::array<Event, kUseCount> uses = {};  // of the last content; the mover's while moves > 0
    Event loaded;                            // likewise
  };
  struct Home {
    std::byte* device = nullptr;
    std::byte* host = nullptr;
    std::uint64_t offset = 0;  // in the file
    Event stored;              // device and host rows are there
  };
  struct Staging {
    std::byte* data = nullptr;
    IoGroup moves;              // to or from the file
    std::int32_t written = -1;  // GPU batch whose rows are being written
    Event copied;               // to the device
  };
  struct Job {
    enum class Kind : std::uint8_t { take_home, bring_back };
    Kind kind = Kind::take_home;
    Buffer* buffer = nullptr;
    std::int32_t gpu_batch = -1;
    std::int64_t tokens = 0;
  };

  // --------------------------------------------------------------------------- the caller's thread

  Buffer* buffer_of(std::int32_t gpu_batch) {
    const auto found = std::find_if(buffers_.begin(), buffers_.end(), [&](const Buffer& buffer) {
      return buffer.gpu_batch == gpu_batch;
    });
    return found == buffers_.end() ? nullptr : &*found;
  }

  // The free buffer that was taken longest ago; a GPU batch's own where each has one.
  Buffer* take_buffer(std::int32_t gpu_batch, std::int64_t tokens) {
    Buffer* chosen = nullptr;
    if (all_on_device(shares_)) {
      chosen = &buffers_[static_cast<std::size_t>(gpu_batch)];
    } else {
      for (Buffer& buffer : buffers_) {
        const bool is_free = buffer.gpu_batch < 0;
        if (is_free && (chosen == nullptr || buffer.taken < chosen->taken)) chosen = &buffer;
      }
    }
    if (chosen == nullptr) return nullptr;
    chosen->gpu_batch = gpu_batch;
    chosen->tokens = tokens;
    chosen->taken = ++takes_;
    return chosen;
  }

  void bring_back(Buffer& buffer) {
    start({Job::Kind::bring_back, &buffer, buffer.gpu_batch, buffer.tokens});
  }

  // By this thread, or by the mover's where the disk is in it.
  void start(const Job& job) {
    if (!thread_.joinable()) {
      run_one(job);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      assert(job_count_ < jobs_.size());
      jobs_[(first_job_ + job_count_++) % jobs_.size()] = job;
      ++job.buffer->moves;
    }
    changed_.notify_all();
  }

  void await_moves(const Buffer& buffer) {
    if (!thread_.joinable()) return;
    std::unique_lock lock(mutex_);
    if (buffer.moves > 0 && !failure_) {
      const ScopedSpan span(trace_, Activity::wait_activations);
      changed_.wait(lock, [&] { return buffer.moves == 0 || failure_; });
    }
    if (failure_) std::rethrow_exception(failure_);
  }

  // ---------------------------------------------------------------------------- the mover's thread

  void run() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || job_count_ > 0; });
      if (stopping_) return;
      const Job job = jobs_[first_job_];
      first_job_ = (first_job_ + 1) % jobs_.size();
      --job_count_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        run_one(job);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      // The first failure is kept, because the data to be stored is lost.
      if (failure && !failure_) failure_ = failure;
      --job.buffer->moves;
      lock.unlock();
      changed_.notify_all();
      if (job.kind == Job::Kind::take_home && !failure) write_home(job);
    }
  }

  void run_one(const Job& job) {
    if (job.kind == Job::Kind::take_home) {
      take_home(job);
    } else {
      bring_home_back(job);
    }
  }

  std::size_t row_bytes() const {
    return static_cast<std::size_t>(shape_.width) * size_of(shape_.dtype);
  }
  // Where the rows of a tier begin in a buffer, and how many bytes they are.
  struct Part {
    std::byte* data;
    std::size_t bytes;
  };
  Part part_of(const Job& job, Tier tier) const {
    const Rows rows = rows_by_tier(shares_, job.tokens);
    std::size_t before = 0;
    for (std::size_t t = 0; t < static_cast<std::size_t>(tier); ++t) {
      before += static_cast<std::size_t>(rows[t]) * row_bytes();
    }
    return {job.buffer->data + before,
            static_cast<std::size_t>(rows[static_cast<std::size_t>(tier)]) * row_bytes()};
  }

  void take_home(const Job& job) {
    Buffer& buffer = *job.buffer;
    Home& home = homes_[static_cast<std::size_t>(job.gpu_batch)];
    backend_.wait(Lane::device_to_host, buffer.uses[kComputed]);
    copy_out(home.device, part_of(job, Tier::device));
    copy_out(home.host, part_of(job, Tier::host));
    const Part on_disk = part_of(job, Tier::disk);
    if (on_disk.bytes > 0) {
      // One write of a GPU batch at a time, as two of them have no order in the file.
      await_write_of(job.gpu_batch);
      Staging& staging = next_staging();
      copy_out(staging.data, on_disk);
      staging.written = job.gpu_batch;
    }
    home.stored = backend_.record(Lane::device_to_host);
    buffer.uses[kTakenHome] = home.stored;
  }

  // After take_home(), and after the buffer was handed on: the write itself.
  void write_home(const Job& job) {
    const std::size_t bytes = part_of(job, Tier::disk).bytes;
    if (bytes == 0) return;
    const Home& home = homes_[static_cast<std::size_t>(job.gpu_batch)];
    Staging& staging = stagings_[last_staging_];
    try {
      backend_.synchronize(home.stored);
      // Whole blocks, each with a checksum. The end of the last block belongs to no row and is
      // never read.
      disk_->write(file_, home.offset, round_to_blocks(bytes), staging.data, staging.moves);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    changed_.notify_all();
  }

  void bring_home_back(const Job& job) {
    Buffer& buffer = *job.buffer;
    const Home& home = homes_[static_cast<std::size_t>(job.gpu_batch)];
    const Part on_disk = part_of(job, Tier::disk);
    Staging* staging = nullptr;
    if (on_disk.bytes > 0) {
      await_write_of(job.gpu_batch);
      staging = &next_staging();
      disk_->read(file_, home.offset, round_to_blocks(on_disk.bytes), staging->data,
                  staging->moves);
    }
    backend_.wait(Lane::host_to_device, home.stored);
    for (const Event& use : buffer.uses) backend_.wait(Lane::host_to_device, use);
    copy_in(part_of(job, Tier::device), home.device);
    copy_in(part_of(job, Tier::host), home.host);
    if (staging != nullptr) {
      staging->moves.wait();
      copy_in(on_disk, staging->data);
    }
    buffer.loaded = backend_.record(Lane::host_to_device);
    if (staging != nullptr) staging->copied = buffer.loaded;
  }

  void copy_out(std::byte* target, const Part& part) {
    if (part.bytes > 0) backend_.copy(Lane::device_to_host, target, part.data, part.bytes);
  }
  void copy_in(const Part& part, const std::byte* source) {
    if (part.bytes > 0) backend_.copy(Lane::host_to_device, part.data, source, part.bytes);
  }

  void await_write_of(std::int32_t gpu_batch) {
    for (Staging& staging : stagings_) {
      if (staging.written == gpu_batch) staging.moves.wait();
    }
  }

  // The staging buffer used longest ago, with nothing going in or out.
  Staging& next_staging() {
    last_staging_ = (last_staging_ + 1) % kStagings;
    Staging& staging = stagings_[last_staging_];
    staging.moves.wait();
    backend_.synchronize(staging.copied);
    staging.written = -1;
    return staging;
  }

  Backend& backend_;
  ActivationShape shape_;
  Shares shares_;
  DiskEngine* disk_;
  Trace* trace_;
  FileId file_ = -1;
  std::uint64_t disk_bytes_ = 0;

  std::vector<Buffer> buffers_;
  std::byte* block_ = nullptr;  // that all buffers lie in, with ActivationShape::adjoining
  std::int64_t laid_out_ = 0;   // rows of it
  Event last_read_;             // the last close()'s `read_by`
  std::uint64_t takes_ = 0;

  // Of whoever moves.
  std::vector<Home> homes_;
  std::array<Staging, kStagings> stagings_;
  std::size_t last_staging_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Job, 8> jobs_ = {};  // two buffers, at most one move home and one back each
  std::size_t first_job_ = 0;
  std::size_t job_count_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::thread thread_;
};

ActivationStore::ActivationStore(Backend& backend, const ActivationShape& shape,
                                 const Shares& shares, Arena& device, Arena& host, DiskEngine* disk,
                                 const RunFolder* folder, Trace* trace)
    : impl_(std::make_unique<Impl>(backend, shape, shares, device, host, disk, folder, trace)) {}

ActivationStore::~ActivationStore() = default;

std::uint64_t ActivationStore::disk_bytes() const { return impl_->disk_bytes(); }

TensorView ActivationStore::open(std::int32_t gpu_batch, std::int64_t tokens, bool fresh) {
  return impl_->open(gpu_batch, tokens, fresh);
}

void ActivationStore::lay_out(std::span<const std::int32_t> tokens) { impl_->lay_out(tokens); }

TensorView ActivationStore::all() const { return impl_->all(); }

void ActivationStore::prefetch(std::int32_t gpu_batch, std::int64_t tokens) {
  impl_->prefetch(gpu_batch, tokens);
}

void ActivationStore::close(std::int32_t gpu_batch, bool keep, Event read_by) {
  impl_->close(gpu_batch, keep, read_by);
}

}  // namespace sluice::offload
