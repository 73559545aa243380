// A CPU backend that has the lanes of messages, as a GPU has: each a thread, which what stands in
// for NCCL puts its work on as on a stream.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "kernels/device/cpu_backend.h"
#include "kernels/device/lane_queue.h"
#include "kernels/ops.h"
#include "tests/support/cuda_emulation/stream.h"

namespace sluice::support {

class MessageLanes final : public Backend {
 public:
  explicit MessageLanes(std::unique_ptr<Backend> cpu, Trace* trace = nullptr)
      : cpu_(std::move(cpu)),
        lanes_{std::make_unique<MessageStream>("send", Activity::send, trace),
               std::make_unique<MessageStream>("receive", Activity::receive, trace)} {}
  ~MessageLanes() override {
    for (const auto& lane : lanes_) lane->queue.finish();
    auto& cpu = static_cast<CpuBackend&>(*cpu_);  // its lanes may still look at those of messages
    for (int lane = 0; lane < kLaneCount; ++lane) cpu.drain(static_cast<Lane>(lane));
  }

  /// Gives the engine's backend such lanes.
  static void add_to(kernels::Engine& engine, Trace* trace) {
    engine.backend = std::make_unique<MessageLanes>(std::move(engine.backend), trace);
  }

  const BackendInfo& info() const override { return cpu_->info(); }
  /// The last one whose device the calling thread took, by stream(); null: none.
  static const Backend*& device_of_thread() {
    thread_local const Backend* device = nullptr;
    return device;
  }
  Memory allocate_device(std::size_t bytes) override { return cpu_->allocate_device(bytes); }
  Memory allocate_host(std::size_t bytes, bool pinned) override {
    return cpu_->allocate_host(bytes, pinned);
  }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    if (!is_message(lane)) return cpu_->copy(lane, target, source, bytes);
    of(lane).queue.put([=] { std::memcpy(target, source, bytes); });
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    if (!is_message(lane)) return cpu_->call(lane, function, argument);
    of(lane).queue.put([=] { function(argument); });
  }
  Event record(Lane lane) override {
    if (!is_message(lane)) return cpu_->record(lane);
    return {lane, of(lane).queue.last()};
  }
  void wait(Lane lane, Event event) override {
    if (event.lane == lane || done(event)) return;
    if (is_message(lane)) {
      of(lane).queue.put([this, event] { synchronize(event); }, LaneQueue::Account::waiting);
    } else if (is_message(event.lane)) {
      static_cast<CpuBackend&>(*cpu_).put(lane, [this, event] { synchronize(event); });
    } else {
      cpu_->wait(lane, event);
    }
  }
  void expect_stall(Activity why) override { cpu_->expect_stall(why); }
  bool done(Event event) override {
    return is_message(event.lane) ? of(event.lane).queue.done(event.ticket) : cpu_->done(event);
  }
  void synchronize(Event event) override {
    if (!is_message(event.lane)) return cpu_->synchronize(event);
    of(event.lane).queue.wait(event.ticket);
    of(event.lane).failure.rethrow();
  }
  void* stream(Lane lane) override {
    if (!is_message(lane)) return nullptr;
    device_of_thread() = this;
    return static_cast<CUstream_st*>(&of(lane));
  }

 private:
  struct MessageStream final : CUstream_st {
    MessageStream(const char* name, Activity activity, Trace* trace)
        : queue(name, activity, trace, failure) {}
    void enqueue(std::function<void()> work) override {
      auto* const kept = new std::function<void()>(std::move(work));
      queue.put([kept] {
        const std::unique_ptr<std::function<void()>> owned(kept);
        (*owned)();
      });
    }
    int device() const override { return 0; }
    FirstFailure failure;
    LaneQueue queue;
  };

  static bool is_message(Lane lane) { return lane == Lane::send || lane == Lane::receive; }
  MessageStream& of(Lane lane) { return *lanes_[lane == Lane::send ? 0 : 1]; }

  std::unique_ptr<Backend> cpu_;
  std::array<std::unique_ptr<MessageStream>, 2> lanes_;
};

}  // namespace sluice::support
