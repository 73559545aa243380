// A world over slow links: every message to another rank sets out a fixed time late, and its
// sender's buffer is in use until then. Links carry any number of messages at a time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/world.h"

namespace sluice::support {

class DelayedWorld final : public comm::World {
 public:
  /// `inner` must outlive it.
  DelayedWorld(comm::World& inner, std::chrono::nanoseconds delay)
      : inner_(inner), delay_(delay), thread_([this] { deliver(); }) {}
  ~DelayedWorld() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  int ranks_on_host() const override { return inner_.ranks_on_host(); }
  int local_rank() const override { return inner_.local_rank(); }
  const std::vector<comm::Host>& hosts() const override { return inner_.hosts(); }

  comm::Transfer send(comm::Route route, int target, std::span<const std::byte> bytes) override {
    if (target == rank()) return under_way(inner_.send(route, target, bytes));
    const std::lock_guard lock(mutex_);
    const std::int32_t place = take_place();
    Parcel& parcel = parcels_[static_cast<std::size_t>(place)];
    parcel = {false, std::chrono::steady_clock::now() + delay_, route, target, bytes, {}, {}};
    late_.push_back(place);
    changed_.notify_all();
    return {place};
  }
  comm::Transfer receive(comm::Route route, int source, std::span<std::byte> bytes) override {
    return under_way(inner_.receive(route, source, bytes));
  }
  bool done(comm::Transfer transfer, std::size_t* received_bytes) override {
    const std::lock_guard lock(mutex_);
    const Parcel& parcel = parcels_.at(static_cast<std::size_t>(transfer.index));
    if (!parcel.sent) return false;
    if (parcel.failure) std::rethrow_exception(parcel.failure);
    if (!inner_.done(parcel.transfer, received_bytes)) return false;
    free_.push_back(transfer.index);
    return true;
  }
  std::size_t wait(comm::Transfer transfer) override {
    std::unique_lock lock(mutex_);
    const Parcel& parcel = parcels_.at(static_cast<std::size_t>(transfer.index));
    changed_.wait(lock, [&] { return parcel.sent; });
    if (parcel.failure) std::rethrow_exception(parcel.failure);
    const comm::Transfer sent = parcel.transfer;
    lock.unlock();
    const std::size_t bytes = inner_.wait(sent);
    lock.lock();
    free_.push_back(transfer.index);
    return bytes;
  }
  void ring_for(comm::Route route, comm::Bell* bell) override { inner_.ring_for(route, bell); }
  void throw_if_failed() const override { inner_.throw_if_failed(); }

  std::vector<std::string> gather(const std::string& text) override { return inner_.gather(text); }
  std::string broadcast(const std::string& text) override { return inner_.broadcast(text); }
  void step(const char* text, std::int64_t pass, std::int64_t layer) override {
    inner_.step(text, pass, layer);
  }
  [[noreturn]] void fail(ExitStatus status, const std::string& sentence) override {
    inner_.fail(status, sentence);
    std::abort();  // it does not return
  }

 private:
  struct Parcel {
    bool sent = false;
    std::chrono::steady_clock::time_point due{};
    comm::Route route = comm::Route::hidden;
    int target = -1;
    std::span<const std::byte> bytes;
    comm::Transfer transfer;  // of the inner world, once sent
    std::exception_ptr failure;
  };

  std::int32_t take_place() {
    if (free_.empty()) {
      parcels_.emplace_back();  // a deque: others stay where they are
      return static_cast<std::int32_t>(parcels_.size()) - 1;
    }
    const std::int32_t place = free_.back();
    free_.pop_back();
    return place;
  }
  comm::Transfer under_way(comm::Transfer transfer) {
    const std::lock_guard lock(mutex_);
    const std::int32_t place = take_place();
    parcels_[static_cast<std::size_t>(place)] = {true, {}, {}, -1, {}, transfer, {}};
    return {place};
  }

  void deliver() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !late_.empty() || stopping_; });
      if (late_.empty()) return;
      Parcel& parcel = parcels_[static_cast<std::size_t>(late_.front())];
      late_.pop_front();
      lock.unlock();
      std::this_thread::sleep_until(parcel.due);  // all are equally late: the first is due first
      try {
        parcel.transfer = inner_.send(parcel.route, parcel.target, parcel.bytes);
      } catch (...) {
        parcel.failure = std::current_exception();
      }
      lock.lock();
      parcel.sent = true;
      changed_.notify_all();
    }
  }

  comm::World& inner_;
  std::chrono::nanoseconds delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Parcel> parcels_;      // by Transfer::index
  std::vector<std::int32_t> free_;  // places of parcels_
  std::deque<std::int32_t> late_;   // still to be sent, in order
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sluice::support
