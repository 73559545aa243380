// What every resource of a stage was doing and when: busy time per activity, always; every single
// span, when a trace file was asked for. Written by any thread, read at the end.
//
// What was hidden is measured, not deduced: the compute lane says when it stands still, and every
// other activity's span is told how much of it fell into such a time.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device/stall_history.h"

namespace sluice {

/// What time is spent on. One lane of the trace each.
enum class Activity : std::uint8_t {
  compute,         // on the device
  host_compute,    // attention beside host-resident KV
  host_to_device,  // copies
  device_to_host,  // copies
  disk_read,
  disk_write,
  send,              // waiting until sent hidden states are gone
  receive,           // waiting for hidden states of a pass whose header is here
  wait_weights,      // the executor stands still because a layer is not there yet
  wait_kv,           // ... because KV of host or disk is not there yet
  wait_activations,  // ... because hidden states of host or disk are not there yet
  idle,              // ... because there is no pass to work on

  // The compute lane stands still ...
  stall_weights,
  stall_kv,
  stall_activations,
  stall_host_compute,  // for the host's attention
  stall_results,       // until what is to be overwritten has been copied home
  stall_message,       // for hidden states to come or to be gone
  stall_pass,          // because there is no pass to work on: the bubble
  stall_other,         // because the executor, which waits for nothing, has not got that far
};
constexpr int kActivityCount = 20;
const char* name_of(Activity activity);

using Clock = std::chrono::steady_clock;

struct Span {
  Activity activity;
  std::int32_t pass;      // -1: none
  std::int32_t layer;     // -1: none
  std::int64_t begin_ns;  // since the trace's start
  std::int64_t end_ns;
};

class Trace {
 public:
  /// Keeps at most `max_spans` spans (0: totals only); later ones are counted but not kept.
  explicit Trace(std::size_t max_spans);

  std::int64_t now_ns() const;
  /// Thread-safe; never allocates.
  void add(Activity activity, std::int64_t begin_ns, std::int64_t end_ns, std::int32_t pass = -1,
           std::int32_t layer = -1);
  void add_bytes(Activity activity, std::uint64_t bytes);

  /// The compute lane stands still from now on. Its thread only, in turn with end_stall().
  void begin_stall();
  /// `why`: the stall_... it waited for.
  void end_stall(Activity why);
  /// It had no work. What the executor waited for meanwhile says why; the rest is stall_other.
  void end_starvation();

  /// What the executor has waited for so far, by cause.
  using Waited = std::array<std::int64_t, 6>;
  Waited waited() const;
  /// The same two of a lane that learns later when it stood still: in turn, at times that do not go
  /// back. `why` stall_other: it had no work, and the executor had `waited` meanwhile.
  void add_stall(std::int64_t begin_ns, std::int64_t end_ns, Activity why, const Waited& waited);

  double busy_seconds(Activity activity) const;
  std::uint64_t bytes(Activity activity) const;
  /// Of busy_seconds(), those in which the compute lane stood still: not hidden behind it. 0 of the
  /// compute lane's own activities, and where no lane says when it stands still.
  double exposed_seconds(Activity activity) const;
  /// Whether a compute lane says when it stands still.
  bool measures_stalls() const { return stalls_.begun(); }
  /// Call when no other thread adds any more.
  std::vector<Span> spans() const;
  std::uint64_t dropped_spans() const;

 private:
  void take(Activity activity, std::int64_t begin_ns, std::int64_t end_ns, std::int32_t pass,
            std::int32_t layer);
  void take_starvation(std::int64_t begin_ns, std::int64_t end_ns, const Waited& waited);

  Clock::time_point start_;
  std::unique_ptr<Span[]> spans_;
  std::size_t capacity_;
  std::atomic<std::uint64_t> count_{0};
  std::atomic<std::int64_t> busy_ns_[kActivityCount] = {};
  std::atomic<std::uint64_t> bytes_[kActivityCount] = {};
  std::atomic<std::int64_t> exposed_ns_[kActivityCount] = {};

  StallHistory stalls_;
  std::int64_t stall_begin_ns_ = 0;  // the compute lane's thread
  Waited waited_ = {};               // ... when it last stood still
};

/// Adds the time of its own life to a trace. `trace` may be null.
class ScopedSpan {
 public:
  ScopedSpan(Trace* trace, Activity activity, std::int32_t pass = -1, std::int32_t layer = -1)
      : trace_(trace),
        activity_(activity),
        pass_(pass),
        layer_(layer),
        begin_ns_(trace != nullptr ? trace->now_ns() : 0) {}
  ~ScopedSpan() {
    if (trace_ != nullptr) trace_->add(activity_, begin_ns_, trace_->now_ns(), pass_, layer_);
  }
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

 private:
  Trace* trace_;
  Activity activity_;
  std::int32_t pass_;
  std::int32_t layer_;
  std::int64_t begin_ns_;
};

}  // namespace sluice
