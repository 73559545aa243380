#include "comm/channel_watch.h"

#include <chrono>
#include <exception>

#include "comm/failure.h"

namespace sluice::comm {

namespace {

constexpr std::chrono::milliseconds kInterval{100};

}  // namespace

ChannelWatch::ChannelWatch(DeviceChannel& channel, World& world)
    : channel_(channel), world_(world), thread_([this] { watch(); }) {}

ChannelWatch::~ChannelWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ChannelWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    if (!look()) return;
    lock.lock();
  }
}

bool ChannelWatch::look() noexcept {
  try {
    channel_.check();
    return true;
  } catch (...) {
    fail_world(world_, std::current_exception());
    channel_.abort();
    return false;
  }
}

}  // namespace sluice::comm
