// A thread that asks a channel for errors while other threads wait for the device. A device that
// waits for a message which will never come stands still for ever, and its rank still sends
// heartbeats.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/device_channel.h"
#include "comm/world.h"

namespace sluice::comm {

class ChannelWatch {
 public:
  /// Ends the job (fail_world()) when `channel` fails. Between ranks of one process it then aborts
  /// the channel, so that threads that wait for its lanes go on. Both must outlive the watch.
  ChannelWatch(DeviceChannel& channel, World& world);
  ~ChannelWatch();
  ChannelWatch(const ChannelWatch&) = delete;
  ChannelWatch& operator=(const ChannelWatch&) = delete;

 private:
  void watch();
  bool look() noexcept;

  DeviceChannel& channel_;
  World& world_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::comm
