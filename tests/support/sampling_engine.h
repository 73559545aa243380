// The CPU engine as one whose device samples (BackendInfo::samples): stage::Sampler on the compute
// lane, over what lies in device memory alone. Logits are overwritten with NaN once they were
// sampled; a pointer into other memory throws std::logic_error.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device/cpu_backend.h"
#include "kernels/ops.h"
#include "stage/sampler.h"

namespace sluice::support {

/// A CpuBackend that knows which memory is the device's, and which of the host's is not pinned: a
/// GPU's stream would stand still for a copy to or from that on a lane that computes or takes
/// results home.
class SamplingBackend final : public Backend {
 public:
  SamplingBackend(BackendInfo info, Trace* trace) : cpu_(std::move(info), trace) {}

  CpuBackend& cpu() { return cpu_; }
  bool on_device(const void* data, std::size_t bytes) const {
    const auto* begin = static_cast<const std::byte*>(data);
    return std::any_of(ranges_.begin(), ranges_.end(), [&](const auto& range) {
      return begin >= range.first && begin + bytes <= range.second;
    });
  }

  std::int64_t pageable_copies() const { return pageable_copies_; }

  const BackendInfo& info() const override { return cpu_.info(); }
  Memory allocate_device(std::size_t bytes) override {
    Memory memory = cpu_.allocate_device(bytes);
    ranges_.emplace_back(memory.data(), memory.data() + bytes);
    return memory;
  }
  Memory allocate_host(std::size_t bytes, bool pinned) override {
    Memory memory = cpu_.allocate_host(bytes, pinned);
    if (!pinned) pageable_.emplace_back(memory.data(), memory.data() + bytes);
    return memory;
  }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    const bool waits = lane == Lane::compute || lane == Lane::device_to_host;
    if (waits && (is_pageable(source) || is_pageable(target))) ++pageable_copies_;
    cpu_.copy(lane, target, source, bytes);
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    cpu_.call(lane, function, argument);
  }
  Event record(Lane lane) override { return cpu_.record(lane); }
  void wait(Lane lane, Event event) override { cpu_.wait(lane, event); }
  void expect_stall(Activity why) override { cpu_.expect_stall(why); }
  bool done(Event event) override { return cpu_.done(event); }
  void synchronize(Event event) override { cpu_.synchronize(event); }

 private:
  bool is_pageable(const void* data) const {
    const auto* begin = static_cast<const std::byte*>(data);
    return std::any_of(pageable_.begin(), pageable_.end(), [&](const auto& range) {
      return begin >= range.first && begin < range.second;
    });
  }

  CpuBackend cpu_;
  std::vector<std::pair<const std::byte*, const std::byte*>> ranges_;
  std::vector<std::pair<const std::byte*, const std::byte*>> pageable_;
  std::atomic<std::int64_t> pageable_copies_{0};
};

class SamplingOps final : public kernels::Ops {
 public:
  static constexpr std::int32_t kMostTokens = 60000;  // of a vocabulary

  SamplingOps(SamplingBackend& backend, std::shared_ptr<kernels::ThreadPool> pool)
      : backend_(backend),
        sampler_(kMostTokens),
        cpu_(backend.cpu(), Lane::compute, std::move(pool), 0) {}

  void sample(kernels::SampledRow* out, TensorView logits, const kernels::SampleRow* rows,
              const kernels::SampleLists& lists) override {
    const auto count = static_cast<std::size_t>(logits.rows);
    if (!backend_.on_device(out, count * sizeof(*out)) ||
        !backend_.on_device(logits.data, logits.bytes()) ||
        !backend_.on_device(rows, count * sizeof(*rows)) || !backend_.on_device(lists.edits, 1)) {
      throw std::logic_error("sample: memory that the device has not");
    }
    backend_.cpu().put(Lane::compute, [this, out, logits, rows, lists] {
      for (std::int64_t i = 0; i < logits.rows; ++i) {
        sample_row(out[i], logits.slice(i, 1), rows[i], lists);
      }
    });
  }

  void gather(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override {
    cpu_.gather(out, table, ids);
  }
  void gather_add(TensorView out, const SplitMatrix& table, const std::int32_t* ids) override {
    cpu_.gather_add(out, table, ids);
  }
  void select_rows(TensorView out, TensorView in, const std::int32_t* rows) override {
    cpu_.select_rows(out, in, rows);
  }
  void layer_norm(TensorView out, TensorView in, TensorView weight, TensorView bias,
                  float epsilon) override {
    cpu_.layer_norm(out, in, weight, bias, epsilon);
  }
  void rms_norm(TensorView out, TensorView in, TensorView weight, float epsilon,
                float offset) override {
    cpu_.rms_norm(out, in, weight, epsilon, offset);
  }
  void rotate(TensorView rows, const kernels::Rotation& rotation,
              const std::int32_t* positions) override {
    cpu_.rotate(rows, rotation, positions);
  }
  void scale(TensorView rows, float factor) override { cpu_.scale(rows, factor); }
  void soft_cap(TensorView rows, float cap) override { cpu_.soft_cap(rows, cap); }
  void add(TensorView out, TensorView in) override { cpu_.add(out, in); }
  void widen_rows(TensorView out, TensorView in) override { cpu_.widen_rows(out, in); }
  void clear(TensorView rows) override { cpu_.clear(rows); }
  void clamp(TensorView rows, float limit) override { cpu_.clamp(rows, limit); }
  void route(const kernels::RoutedRows& routed, TensorView logits, TensorView correction,
             const kernels::RouterRule& rule) override {
    cpu_.route(routed, logits, correction, rule);
  }
  void add_rows(TensorView out, TensorView in, const kernels::RowFactors& where) override {
    cpu_.add_rows(out, in, where);
  }
  void linear(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
              kernels::Activation activation, TensorView residual) override {
    cpu_.linear(out, in, weight, bias, activation, residual);
  }
  void linear_times(TensorView out, TensorView in, const SplitMatrix& weight, TensorView bias,
                    TensorView factor) override {
    cpu_.linear_times(out, in, weight, bias, factor);
  }
  void append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch, TensorView keys,
                 TensorView values) override {
    cpu_.append_kv(cache, batch, keys, values);
  }
  void attention(TensorView out, TensorView query, const kernels::KvPages& cache,
                 const kernels::KvBatch& batch, const kernels::AttentionRule& rule) override {
    cpu_.attention(out, query, cache, batch, rule);
  }

 private:
  void sample_row(kernels::SampledRow& out, TensorView logits, const kernels::SampleRow& row,
                  const kernels::SampleLists& lists) {
    const std::span<float> line(static_cast<float*>(logits.data),
                                static_cast<std::size_t>(logits.columns));
    stage::Sampling sampling;
    sampling.temperature = row.temperature;
    sampling.top_k = row.top_k;
    sampling.top_p = row.top_p;
    sampling.min_p = row.min_p;
    sampling.repetition_penalty = row.repetition_penalty;
    sampling.logprobs = row.logprobs;
    sampling.of_beam = row.of_beam;
    const kernels::TokenEdit* next = lists.edits + row.first_edit;
    const auto take = [&next](std::int32_t count) {
      const std::span<const kernels::TokenEdit> edits(next, static_cast<std::size_t>(count));
      next += count;
      return edits;
    };
    stage::LogitEdits edits;
    edits.biases = take(row.biases);
    edits.repeated = take(row.repeated);
    edits.others = take(row.others);
    if (row.first_mask_word >= 0) {
      edits.mask = {lists.masks + row.first_mask_word, (line.size() + 31) / 32};
    }
    const stage::TokenResult result =
        row.token >= 0 ? sampler_.score(line, row.token, row.logprobs)
                       : sampler_.sample_with(line, sampling, edits, row.uniform);
    std::fill(line.begin(), line.end(), NAN);
    out.token = result.token;
    out.logprob = result.logprob;
    out.top_count = static_cast<std::int32_t>(result.top.size());
    for (std::int32_t i = 0; i < out.top_count; ++i) {
      out.top_token[i] = result.top[static_cast<std::size_t>(i)].token;
      out.top_logprob[i] = result.top[static_cast<std::size_t>(i)].logprob;
    }
  }

  SamplingBackend& backend_;
  stage::Sampler sampler_;  // of the lane's thread
  kernels::CpuOps cpu_;     // ends after the lane's work, so before what that uses
};

/// `trace` may be null, else must outlive the engine.
inline kernels::Engine make_sampling_engine(int threads, Trace* trace) {
  BackendInfo info;
  info.kind = "cpu";
  info.description = "cpu, sampling on its device";
  info.threads = threads;
  info.samples = true;
  auto backend = std::make_unique<SamplingBackend>(std::move(info), trace);
  auto pool = std::make_shared<kernels::ThreadPool>(threads);
  kernels::Engine engine;
  engine.device_ops = std::make_unique<SamplingOps>(*backend, pool);
  engine.host_ops = std::make_unique<kernels::CpuOps>(backend->cpu(), Lane::host_compute, pool, 1);
  engine.backend = std::move(backend);
  return engine;
}

}  // namespace sluice::support
