// A DeviceChannel between threads of one process that buffers nothing. A send stays on its lane
// until its receive is there, as a large send of NCCL does. A program that relies on buffering
// hangs here, too.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "comm/device_channel.h"
#include "tests/support/cuda_emulation/stream.h"

namespace sluice::support {

/// The way from a rank to the next.
class Rendezvous {
 public:
  void receive(void* target, std::size_t bytes) {
    std::unique_lock lock(mutex_);
    target_ = target;
    bytes_ = bytes;
    changed_.notify_all();
    changed_.wait(lock, [this] { return target_ == nullptr || broken_; });
  }
  void send(const void* source, std::size_t bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return target_ != nullptr || broken_; });
    if (broken_) return;
    if (++sent_ == lost_) {
      problem_ = "message " + std::to_string(sent_) + " was lost";
      changed_.wait(lock, [this] { return broken_; });
      return;
    }
    if (bytes != bytes_) problem_ = "a message of another length than its receive";
    std::memcpy(target_, source, std::min(bytes, bytes_));
    target_ = nullptr;
    changed_.notify_all();
  }
  void break_off() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }
  void check() {
    const std::lock_guard lock(mutex_);
    if (!problem_.empty()) throw CommError(problem_);
  }
  /// The message of this number, counted from 1, never comes, and check() says so.
  void lose(int message) { lost_ = message; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  void* target_ = nullptr;  // of the receive that is there
  std::size_t bytes_ = 0;
  bool broken_ = false;
  int sent_ = 0;
  int lost_ = 0;
  std::string problem_;
};

class RendezvousChannel final : public comm::DeviceChannel {
 public:
  /// `ways[r]` leads from rank r to the next. `backend` has lanes of messages (message_lanes.h).
  RendezvousChannel(Backend& backend, std::vector<Rendezvous>& ways, int rank)
      : backend_(backend),
        in_(rank > 0 ? &ways[static_cast<std::size_t>(rank) - 1] : nullptr),
        out_(&ways[static_cast<std::size_t>(rank)]) {}
  ~RendezvousChannel() override { abort(); }

  void send(const void* data, std::size_t bytes) override {
    stream(Lane::send).enqueue([way = out_, data, bytes] { way->send(data, bytes); });
  }
  void receive(void* data, std::size_t bytes) override {
    stream(Lane::receive).enqueue([way = in_, data, bytes] { way->receive(data, bytes); });
  }
  void check() override {
    if (in_ != nullptr) in_->check();
    out_->check();
  }
  void abort() noexcept override {
    if (in_ != nullptr) in_->break_off();
    out_->break_off();
  }

 private:
  CUstream_st& stream(Lane lane) { return *static_cast<CUstream_st*>(backend_.stream(lane)); }

  Backend& backend_;
  Rendezvous* in_;
  Rendezvous* out_;
};

}  // namespace sluice::support
