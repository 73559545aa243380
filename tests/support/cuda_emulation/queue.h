// The thread behind an emulated stream: work in order, and marks that tell how far it came.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace sluice::emulated {

class Queue;

/// A point of a queue. Any thread may wait for it.
class Mark {
 public:
  Mark(std::weak_ptr<Queue> queue, std::uint64_t place) : queue_(std::move(queue)), place_(place) {}
  bool done();
  /// Blocks. Work that runs late runs now.
  void wait();
  /// Nanoseconds of the steady clock when it was reached; done() must be true.
  std::int64_t time_ns() const { return time_ns_; }
  void reach();

 private:
  void demand();

  std::weak_ptr<Queue> queue_;
  std::uint64_t place_;
  std::mutex mutex_;
  std::condition_variable reached_;
  bool done_ = false;
  std::int64_t time_ns_ = 0;
};

class Queue : public std::enable_shared_from_this<Queue> {
 public:
  static std::shared_ptr<Queue> make(int device);
  ~Queue();

  int device() const { return device_; }

  /// Work that a broken device leaves undone. What it throws breaks the device.
  void put(std::function<void()> work);
  std::shared_ptr<Mark> mark();
  bool idle();
  void finish() { mark()->wait(); }
  /// Lets work up to `place` run, where it is kept back to run late.
  void demand(std::uint64_t place);

 private:
  struct Item {
    std::function<void()> work;
    bool always = false;
  };

  explicit Queue(int device) : device_(device) {}
  std::uint64_t put_item(Item item);
  void run();
  void run_item(const Item& item) const;
  bool next(Item& item);

  const int device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  std::uint64_t put_ = 0;
  std::uint64_t run_ = 0;
  std::uint64_t demanded_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace sluice::emulated
