// An engine whose computing is a timed wait: a decoder layer over a GPU batch, and the output head,
// keep the compute lane for a set time and compute nothing. Stages of any speed then run beside
// each other on a machine of any size, and what is seen is the pipeline alone: executor, head,
// channels. Memory, copies, lanes and events are the CPU backend's.
//
// The lane's clock is exact: work that was there when the work before it ended begins at that
// moment, not when the operating system woke the thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "kernels/device/cpu_backend.h"
#include "kernels/ops.h"

namespace sluice::support {

/// Of one stage. Work of n tokens takes max(fixed, n * per_token).
struct TimedCosts {
  struct Cost {
    std::chrono::nanoseconds fixed{0};
    std::chrono::nanoseconds per_token{0};
    std::chrono::nanoseconds of(std::int64_t tokens) const {
      return std::max(fixed, per_token * tokens);
    }
  };
  Cost layer;
  Cost head;
};

/// When a compute lane was busy. The lane's thread writes it; read it after the engine is
/// destroyed.
struct LaneClock {
  std::chrono::steady_clock::time_point first{};  // the first work's begin
  std::chrono::steady_clock::time_point end{};    // the last work's end
  std::chrono::nanoseconds busy{0};
  std::uint64_t works = 0;
};

class TimedOps final : public kernels::Ops {
 public:
  /// A product of `ffn` outputs is a layer's (its first of two), one of `vocabulary` the head's.
  TimedOps(CpuBackend& backend, const TimedCosts& costs, std::int64_t ffn, std::int64_t vocabulary,
           LaneClock& clock)
      : backend_(backend), costs_(costs), ffn_(ffn), vocabulary_(vocabulary), clock_(clock) {}

  void linear(TensorView out, TensorView in, const SplitMatrix&, TensorView, kernels::Activation,
              TensorView) override {
    if (out.columns == ffn_) spend(costs_.layer.of(in.rows));
    if (out.columns == vocabulary_) spend(costs_.head.of(in.rows));
  }
  void gather(TensorView, const SplitMatrix&, const std::int32_t*) override {}
  void gather_add(TensorView, const SplitMatrix&, const std::int32_t*) override {}
  void select_rows(TensorView, TensorView, const std::int32_t*) override {}
  void layer_norm(TensorView, TensorView, TensorView, TensorView, float) override {}
  void rms_norm(TensorView, TensorView, TensorView, float, float) override {}
  void rotate(TensorView, const kernels::Rotation&, const std::int32_t*) override {}
  void scale(TensorView, float) override {}
  void soft_cap(TensorView, float) override {}
  void add(TensorView, TensorView) override {}
  void widen_rows(TensorView, TensorView) override {}
  void clear(TensorView) override {}
  void clamp(TensorView, float) override {}
  void route(const kernels::RoutedRows&, TensorView, TensorView,
             const kernels::RouterRule&) override {}
  void add_rows(TensorView, TensorView, const kernels::RowFactors&) override {}
  void linear_times(TensorView, TensorView, const SplitMatrix&, TensorView, TensorView) override {}
  void append_kv(const kernels::KvPages&, const kernels::KvBatch&, TensorView,
                 TensorView) override {}
  void attention(TensorView, TensorView, const kernels::KvPages&, const kernels::KvBatch&,
                 const kernels::AttentionRule&) override {}

 private:
  void spend(std::chrono::nanoseconds cost) {
    using Time = std::chrono::steady_clock::time_point;
    struct Work {
      LaneClock* clock;
      Time put;
      std::chrono::nanoseconds cost;
      void operator()() const {
        const Time begin = std::max(put, clock->end);
        if (clock->works++ == 0) clock->first = begin;
        clock->end = begin + cost;
        clock->busy += cost;
        std::this_thread::sleep_until(clock->end);
      }
    };
    backend_.put(Lane::compute, Work{&clock_, std::chrono::steady_clock::now(), cost});
  }

  CpuBackend& backend_;
  TimedCosts costs_;
  std::int64_t ffn_;
  std::int64_t vocabulary_;
  LaneClock& clock_;
};

/// `clock` and `trace` must outlive the engine. Everything must live on the device: host_ops waits
/// on nothing.
inline kernels::Engine make_timed_engine(const TimedCosts& costs, std::int64_t ffn,
                                         std::int64_t vocabulary, LaneClock& clock, Trace* trace) {
  BackendInfo info;
  info.kind = "timed";
  info.description = "timed waits";
  auto backend = std::make_unique<CpuBackend>(info, trace);
  kernels::Engine engine;
  engine.device_ops = std::make_unique<TimedOps>(*backend, costs, ffn, vocabulary, clock);
  engine.host_ops = std::make_unique<TimedOps>(*backend, TimedCosts{}, 0, 0, clock);
  engine.backend = std::move(backend);
  return engine;
}

}  // namespace sluice::support
