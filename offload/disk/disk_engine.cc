// The disk engine on Boost.Asio's files and io_uring, and the choice between it and plain threads.
//
// Asio must be told of io_uring by a macro. It is defined for this file alone: the file objects it
// brings exist nowhere else, and the requests below bring their own memory, so that none of Asio's
// inline allocation code (the one thing the macro changes for others) is emitted here.
#define BOOST_ASIO_HAS_IO_URING 1

#include "offload/disk/disk_engine.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/basic_random_access_file.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/system_error.hpp>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "offload/disk/disk_requests.h"

namespace sluice::offload {

namespace {

namespace asio = boost::asio;
using AsioFile = asio::basic_random_access_file<asio::io_context::executor_type>;

// Gives an operation the room its request keeps for it.
template <typename T>
class RequestAllocator {
 public:
  using value_type = T;
  explicit RequestAllocator(DiskRequest* request) : request_(request) {}
  template <typename U>
  RequestAllocator(const RequestAllocator<U>& other) : request_(other.request()) {}

  T* allocate(std::size_t count) {
    static_assert(alignof(T) <= 64);
    if (count * sizeof(T) > sizeof(request_->operation)) throw std::bad_alloc();
    return reinterpret_cast<T*>(request_->operation);
  }
  void deallocate(T*, std::size_t) {}
  DiskRequest* request() const { return request_; }
  template <typename U>
  bool operator==(const RequestAllocator<U>& other) const {
    return request_ == other.request();
  }

 private:
  DiskRequest* request_;
};

class UringEngine final : public RequestEngine {
 public:
  /// Throws boost::system::system_error where the kernel refuses io_uring.
  explicit UringEngine(const DiskOptions& options)
      : RequestEngine(options), work_(context_.get_executor()) {
    const AsioFile probe(context_);  // makes the ring
    const int count = std::max(1, options.threads);
    try {
      for (int i = 0; i < count; ++i) threads_.emplace_back([this] { context_.run(); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~UringEngine() override {
    drain();
    stop();
    // The base closes the descriptors: every file has one, shared by its channels.
    for (const auto& file : files_) {
      for (Channel& channel : file->channels) static_cast<void>(channel.file->release());
    }
  }

 protected:
  std::string kind() const override { return "io_uring"; }

  void opened(FileId id, int descriptor) override {
    auto file = std::make_unique<File>();
    for (Channel& channel : file->channels) {
      channel.file = std::make_unique<AsioFile>(context_, descriptor);
    }
    const std::lock_guard lock(files_mutex_);
    files_.resize(std::max(files_.size(), static_cast<std::size_t>(id) + 1));
    files_[static_cast<std::size_t>(id)] = std::move(file);
  }

  void start(DiskRequest& request) override {
    File& file = find(request.file);
    Channel& channel = file.channels[file.next.fetch_add(1, std::memory_order_relaxed) % kDepth];
    const std::uint64_t offset = request.offset + request.done;
    std::byte* data = request.data + request.done;
    const std::size_t left = request.bytes - request.done;
    // One initiation at a time: Asio's objects are not safe to share.
    const std::lock_guard lock(channel.mutex);
    if (request.write) {
      channel.file->async_write_some_at(offset, asio::const_buffer(data, left),
                                        Completion{this, &request});
    } else {
      channel.file->async_read_some_at(offset, asio::mutable_buffer(data, left),
                                       Completion{this, &request});
    }
  }

 private:
  struct Completion {
    using allocator_type = RequestAllocator<std::byte>;
    allocator_type get_allocator() const { return allocator_type(request); }
    void operator()(const boost::system::error_code& error, std::size_t bytes) const {
      // Asio reports the end of a file as an error of its own; here it is a transfer of nothing.
      const int number = error == asio::error::eof ? 0 : error.value();
      if (!engine->transferred(*request, number, bytes)) engine->start(*request);
    }
    UringEngine* engine;
    DiskRequest* request;
  };

  // Asio keeps one read and one write per file object in flight and queues the others. So a file
  // has several objects, all of one descriptor, and requests take turns between them.
  static constexpr std::size_t kDepth = 8;
  struct Channel {
    std::mutex mutex;
    std::unique_ptr<AsioFile> file;
  };
  struct File {
    std::array<Channel, kDepth> channels;
    std::atomic<std::size_t> next{0};
  };

  File& find(FileId id) {
    const std::lock_guard lock(files_mutex_);
    return *files_[static_cast<std::size_t>(id)];
  }

  void stop() {
    work_.reset();
    for (std::thread& thread : threads_) thread.join();
  }

  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::mutex files_mutex_;
  std::vector<std::unique_ptr<File>> files_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<DiskEngine> DiskEngine::make(const DiskOptions& options) {
  if (!options.allow_io_uring) return make_thread_engine(options, "io_uring switched off");
  try {
    return std::make_unique<UringEngine>(options);
  } catch (const boost::system::system_error& refused) {
    return make_thread_engine(options, "io_uring refused: " + refused.code().message());
  }
}

}  // namespace sluice::offload
