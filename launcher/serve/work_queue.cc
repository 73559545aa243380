#include "launcher/serve/work_queue.h"

#include <utility>

namespace sluice::launcher {

void WorkQueue::start(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

void WorkQueue::push(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    works_.push_back(std::move(work));
  }
  came_.notify_one();
}

void WorkQueue::stop() noexcept {
  std::deque<std::function<void()>> undone;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    undone.swap(works_);
  }
  came_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkQueue::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    came_.wait(lock, [this] { return stopping_ || !works_.empty(); });
    if (stopping_) return;
    const std::function<void()> work = std::move(works_.front());
    works_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace sluice::launcher
