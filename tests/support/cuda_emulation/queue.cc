#include "tests/support/cuda_emulation/queue.h"

#include <chrono>
#include <exception>
#include <utility>

#include "tests/support/cuda_emulation/device.h"

namespace sluice::emulated {

namespace {
/// How long work that runs late is kept back from those who wait without telling CUDA.
constexpr std::chrono::milliseconds kLatest{20};
}  // namespace

bool Mark::done() {
  demand();
  const std::lock_guard lock(mutex_);
  return done_;
}

void Mark::wait() {
  demand();
  std::unique_lock lock(mutex_);
  reached_.wait(lock, [this] { return done_; });
}

void Mark::reach() {
  const std::lock_guard lock(mutex_);
  done_ = true;
  time_ns_ = std::chrono::steady_clock::now().time_since_epoch().count();
  reached_.notify_all();
}

void Mark::demand() {
  if (const auto queue = queue_.lock()) queue->demand(place_);
}

std::shared_ptr<Queue> Queue::make(int device) {
  std::shared_ptr<Queue> queue(new Queue(device));
  queue->thread_ = std::thread([raw = queue.get()] { raw->run(); });
  return queue;
}

Queue::~Queue() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    demanded_ = put_;
    changed_.notify_all();
  }
  thread_.join();
}

std::uint64_t Queue::put_item(Item item) {
  const std::lock_guard lock(mutex_);
  items_.push_back(std::move(item));
  ++put_;
  if (!settings().late) demanded_ = put_;
  changed_.notify_all();
  return put_;
}

void Queue::put(std::function<void()> work) { put_item({std::move(work), false}); }

std::shared_ptr<Mark> Queue::mark() {
  const std::lock_guard lock(mutex_);
  auto mark = std::make_shared<Mark>(weak_from_this(), put_ + 1);
  items_.push_back({[mark] { mark->reach(); }, true});
  ++put_;
  if (!settings().late) demanded_ = put_;
  changed_.notify_all();
  return mark;
}

bool Queue::idle() {
  demand(~std::uint64_t{0});
  const std::lock_guard lock(mutex_);
  return run_ == put_;
}

void Queue::demand(std::uint64_t place) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t until = std::min(place, put_);
  if (until <= demanded_) return;
  demanded_ = until;
  changed_.notify_all();
}

/// False: the queue ends.
bool Queue::next(Item& item) {
  std::unique_lock lock(mutex_);
  while (run_ >= demanded_) {
    if (items_.empty()) {
      if (stop_) return false;
      changed_.wait(lock);
    } else if (changed_.wait_for(lock, kLatest) == std::cv_status::timeout) {
      demanded_ = put_;
    }
  }
  item = std::move(items_.front());
  items_.pop_front();
  return true;
}

void Queue::run() {
  enter_device(device_);
  Item item;
  while (next(item)) {
    run_item(item);
    item = {};  // what it holds goes before anybody hears that it is done
    const std::lock_guard lock(mutex_);
    ++run_;
  }
}

void Queue::run_item(const Item& item) const {
  if (is_broken(device_) && !item.always) return;
  try {
    item.work();
  } catch (const std::exception& error) {
    break_device(device_, error.what());
  } catch (...) {
    break_device(device_, "something that is not an exception was thrown");
  }
}

}  // namespace sluice::emulated
