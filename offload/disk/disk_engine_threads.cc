// The disk engine of blocking calls, for kernels that refuse io_uring.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "offload/disk/disk_requests.h"

namespace sluice::offload {

namespace {

class ThreadEngine final : public RequestEngine {
 public:
  ThreadEngine(const DiskOptions& options, std::string reason)
      : RequestEngine(options), reason_(std::move(reason)) {
    const int count = std::max(1, options.threads);
    try {
      for (int i = 0; i < count; ++i) threads_.emplace_back([this] { serve(); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~ThreadEngine() override {
    drain();
    stop();
  }

 protected:
  std::string kind() const override { return fmt::format("threads ({})", reason_); }

  void start(DiskRequest& request) override {
    const std::lock_guard lock(mutex_);
    request.next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = &request;
    last_ = &request;
    changed_.notify_one();
  }

 private:
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  DiskRequest* next_request() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || first_ != nullptr; });
    DiskRequest* request = first_;
    if (request != nullptr) first_ = request->next;
    return request;
  }

  void serve() {
    while (DiskRequest* request = next_request()) {
      ssize_t moved = 0;
      int error = 0;
      do {
        std::byte* data = request->data + request->done;
        const std::size_t left = request->bytes - request->done;
        const auto offset = static_cast<off_t>(request->offset + request->done);
        moved = request->write ? ::pwrite(request->descriptor, data, left, offset)
                               : ::pread(request->descriptor, data, left, offset);
        error = moved < 0 ? errno : 0;
      } while (!transferred(*request, error, moved < 0 ? 0 : static_cast<std::size_t>(moved)));
    }
  }

  std::string reason_;
  std::mutex mutex_;
  std::condition_variable changed_;
  DiskRequest* first_ = nullptr;
  DiskRequest* last_ = nullptr;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<DiskEngine> make_thread_engine(const DiskOptions& options, std::string reason) {
  return std::make_unique<ThreadEngine>(options, std::move(reason));
}

}  // namespace sluice::offload
