// Looks, while others wait for a device, whether a channel's messages still can come: a rank whose
// device stands still for one that never will looks alive to every heartbeat.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "comm/device_channel.h"
#include "comm/world.h"

namespace sluice::comm {

class ChannelWatch {
 public:
  /// Ends the job (World::fail) when `channel` fails; where that leaves the process alive, aborts
  /// the channel then, so that who waits for its lanes goes on. Both must outlive it.
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
