// An engine without threads that runs queued work in the worst order it may: nothing is done before
// somebody asks for an event, and then lanes are taken in an order drawn from a seed, respecting
// nothing but the order within a lane and the waits between lanes. A missing wait is then a wrong
// number in some order, every time, and not by luck.
//
// It also knows which memory is the device's: a copy on the wrong lane, or a kernel that is handed
// memory its lane cannot read, throws std::logic_error. Memory starts as NaNs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/ops.h"

namespace sluice::support {

class ShuffledBackend : public Backend {
 public:
  explicit ShuffledBackend(unsigned seed) : random_(seed), eager_(seed == 0) {
    for (auto& lane : lanes_) lane.tasks.resize(kCapacity);
    info_.kind = "shuffled";
    scores_.resize(1 << 14);
  }

  const BackendInfo& info() const override { return info_; }
  Memory allocate_device(std::size_t bytes) override { return allocate(bytes, true); }
  Memory allocate_host(std::size_t bytes, bool) override { return allocate(bytes, false); }

  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    if (bytes == 0) throw std::logic_error("a copy of nothing");
    const bool to = on_device(target);
    const bool from = on_device(source);
    if ((lane == Lane::host_to_device && (!to || from)) ||
        (lane == Lane::device_to_host && (to || !from)) ||
        (lane == Lane::host_compute && (to || from))) {
      throw std::logic_error(std::string("a copy of the wrong direction on lane ") +
                             std::to_string(static_cast<int>(lane)));
    }
    Task& task = push(lane, Task::Kind::copy);
    task.target = target;
    task.source = source;
    task.bytes = bytes;
    after_push();
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    Task& task = push(lane, Task::Kind::call);
    task.function = function;
    task.target = argument;
    after_push();
  }
  Event record(Lane lane) override {
    Task& task = push(lane, Task::Kind::mark);
    task.event = {lane, ++of(lane).recorded};
    const Event event = task.event;
    after_push();
    return event;
  }
  void wait(Lane lane, Event event) override {
    check(event);
    push(lane, Task::Kind::wait).event = event;
    after_push();
  }
  bool done(Event event) override {
    for (int i = 0; i < 3; ++i) step();
    return is_done(event);
  }
  void synchronize(Event event) override {
    if (event.ticket != 0) check(event);
    while (!is_done(event)) {
      if (!step()) throw std::logic_error("the lanes wait for each other");
    }
  }

  void append(Lane lane, const kernels::KvPages& cache, const kernels::KvBatch& batch,
              TensorView keys, TensorView values) {
    Task& task = push(lane, Task::Kind::append);
    task.cache = cache;
    task.batch = batch;
    task.views[0] = keys;
    task.views[1] = values;
    after_push();
  }
  void attend(Lane lane, TensorView out, TensorView query, const kernels::KvPages& cache,
              const kernels::KvBatch& batch, const kernels::AttentionRule& rule) {
    Task& task = push(lane, Task::Kind::attend);
    task.cache = cache;
    task.batch = batch;
    task.views[0] = out;
    task.views[1] = query;
    task.rule = rule;
    after_push();
  }

 private:
  struct Task {
    enum class Kind { copy, call, mark, wait, append, attend };
    Kind kind = Kind::mark;
    void* target = nullptr;
    const void* source = nullptr;
    std::size_t bytes = 0;
    void (*function)(void*) = nullptr;
    Event event;
    kernels::KvPages cache;
    kernels::KvBatch batch;
    TensorView views[2];
    kernels::AttentionRule rule;
  };
  struct Queue {
    std::vector<Task> tasks;  // a ring
    std::size_t first = 0;
    std::size_t count = 0;
    std::uint64_t recorded = 0;
    std::uint64_t done = 0;
  };
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    bool device;
  };
  static constexpr std::size_t kCapacity = 1 << 12;

  Memory allocate(std::size_t bytes, bool device) {
    auto* data = static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096));
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0xFF, bytes);
    ranges_.push_back({data, data + bytes, device});
    return Memory(data, bytes, [](void* memory, std::size_t) { std::free(memory); });
  }
  bool on_device(const void* pointer) const {
    for (const Range& range : ranges_) {
      if (pointer >= range.begin && pointer < range.end) return range.device;
    }
    return false;  // the test's own memory
  }
  Queue& of(Lane lane) { return lanes_[static_cast<std::size_t>(lane)]; }
  void check(Event event) {
    if (event.ticket == 0 || event.ticket > of(event.lane).recorded) {
      throw std::logic_error("an event that does not come from record()");
    }
  }
  bool is_done(Event event) { return of(event.lane).done >= event.ticket; }

  Task& push(Lane lane, typename Task::Kind kind) {
    Queue& queue = of(lane);
    while (queue.count == kCapacity) {
      if (!step()) throw std::logic_error("the lanes wait for each other");
    }
    Task& task = queue.tasks[(queue.first + queue.count++) % kCapacity];
    task = Task{};
    task.kind = kind;
    filling_ = true;
    return task;
  }
  void after_push() {
    filling_ = false;
    while (eager_ && step()) {
    }
  }

  // Runs one task of one lane; lanes are kept for a stretch, so that each gets far ahead of the
  // others.
  bool step() {
    if (filling_) return false;
    if (random_() % 4 == 0) favourite_ = random_() % kLaneCount;
    for (std::size_t i = 0; i < kLaneCount; ++i) {
      if (run_front(static_cast<Lane>((favourite_ + i) % kLaneCount))) return true;
    }
    return false;
  }
  bool run_front(Lane lane) {
    Queue& queue = of(lane);
    if (queue.count == 0) return false;
    const Task& task = queue.tasks[queue.first];
    switch (task.kind) {
      case Task::Kind::copy:
        std::memcpy(task.target, task.source, task.bytes);
        break;
      case Task::Kind::call:
        task.function(task.target);
        break;
      case Task::Kind::mark:
        queue.done = task.event.ticket;
        break;
      case Task::Kind::wait:
        if (!is_done(task.event)) return false;
        break;
      case Task::Kind::append:
        run_append(lane, task);
        break;
      case Task::Kind::attend:
        run_attend(lane, task);
        break;
    }
    queue.first = (queue.first + 1) % kCapacity;
    --queue.count;
    return true;
  }

  void check_memory(Lane lane, const Task& task) const {
    const bool device = lane == Lane::compute;
    const kernels::KvBatch& batch = task.batch;
    for (const void* pointer :
         {static_cast<const void*>(task.cache.base), static_cast<const void*>(batch.first_row),
          static_cast<const void*>(batch.new_tokens), static_cast<const void*>(batch.context),
          static_cast<const void*>(batch.pages), static_cast<const void*>(task.views[0].data),
          static_cast<const void*>(task.views[1].data)}) {
      if (on_device(pointer) != device) throw std::logic_error("memory the lane cannot read");
    }
  }
  static float load(const std::byte* place, DType dtype) {
    if (dtype == DType::f32) return read<float>(place);
    if (dtype == DType::f16) return static_cast<float>(read<_Float16>(place));
    return std::bit_cast<float>(static_cast<std::uint32_t>(read<std::uint16_t>(place)) << 16);
  }
  static float load_at(const std::byte* row, DType dtype, std::int64_t index) {
    return load(row + index * static_cast<std::int64_t>(size_of(dtype)), dtype);
  }
  static void save(std::byte* place, DType dtype, float value) {
    if (dtype == DType::f32) return write(place, value);
    if (dtype == DType::f16) return write(place, static_cast<_Float16>(value));
    const auto bits = std::bit_cast<std::uint32_t>(value);
    write(place, static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16));
  }
  template <typename T>
  static T read(const std::byte* place) {
    T value;
    std::memcpy(&value, place, sizeof value);
    return value;
  }
  template <typename T>
  static void write(std::byte* place, T value) {
    std::memcpy(place, &value, sizeof value);
  }

  // Element 0 of a head's key (part 0) or value (part 1) of token `position` of sequence s.
  static std::byte* element(const Task& task, std::int32_t s, std::int64_t position,
                            std::int32_t head, int part) {
    const kernels::KvPages& cache = task.cache;
    const std::int64_t index = position / cache.page_tokens;
    if (index >= task.batch.max_pages) throw std::logic_error("a token beyond the page table");
    const std::int32_t page = task.batch.pages[std::int64_t{s} * task.batch.max_pages + index];
    if (page < 0) throw std::logic_error("a page that is not there");
    const std::int64_t rows = (std::int64_t{part} * cache.kv_heads + head) * cache.page_tokens +
                              position % cache.page_tokens;
    return static_cast<std::byte*>(cache.base) + page * cache.page_stride_bytes +
           rows * cache.head_dim * static_cast<std::int64_t>(size_of(cache.dtype));
  }
  static const std::byte* value(const Task& task, std::int32_t s, std::int64_t position,
                                std::int32_t head) {
    const std::int32_t first_new = task.batch.context[s] - task.batch.new_tokens[s];
    if (task.cache.old_values == nullptr || position >= first_new) {
      return element(task, s, position, head, 1);
    }
    Task old = task;
    old.cache.base = const_cast<void*>(task.cache.old_values);
    old.batch.pages = task.batch.old_pages;
    return element(old, s, position, head, 1);
  }
  void run_append(Lane lane, const Task& task) {
    check_memory(lane, task);
    const kernels::KvPages& cache = task.cache;
    const auto size = static_cast<std::ptrdiff_t>(size_of(cache.dtype));
    for (std::int32_t s = 0; s < task.batch.sequences; ++s) {
      const std::int32_t count = task.batch.new_tokens[s];
      for (std::int32_t t = 0; t < count; ++t) {
        for (int part = 0; part < 2; ++part) {
          const TensorView& rows = task.views[part];
          const std::byte* row = rows.row(task.batch.first_row[s] + t);
          for (std::int32_t h = 0; h < cache.kv_heads; ++h) {
            std::byte* target = element(task, s, task.batch.context[s] - count + t, h, part);
            for (std::int32_t d = 0; d < cache.head_dim; ++d) {
              save(target + d * size, cache.dtype,
                   load_at(row, rows.dtype, h * cache.head_dim + d));
            }
          }
        }
      }
    }
  }
  void run_attend(Lane lane, const Task& task) {
    check_memory(lane, task);
    for (std::int32_t s = 0; s < task.batch.sequences; ++s) {
      for (std::int32_t t = 0; t < task.batch.new_tokens[s]; ++t) {
        const auto heads = static_cast<std::int32_t>(task.views[1].columns / task.cache.head_dim);
        for (std::int32_t h = 0; h < heads; ++h) attend_head(task, s, t, h, heads);
      }
    }
  }
  /// Sparse attention in small: each query head chooses by itself. Weights that are not kept become
  /// zeros.
  void drop_values(std::int64_t begin, std::int64_t end, std::int32_t kept_millionths) {
    const auto weights = std::span(scores_).subspan(static_cast<std::size_t>(begin),
                                                    static_cast<std::size_t>(end - begin));
    auto drop = end - begin - kernels::kept_values(end - begin, kept_millionths);
    for (std::vector<bool> gone(weights.size()); drop > 0; --drop) {
      std::size_t least = weights.size();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        if (!gone[i] && (least == weights.size() || weights[i] <= weights[least])) least = i;
      }
      gone[least] = true;
      if (drop == 1) {
        for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = gone[i] ? 0 : weights[i];
      }
    }
  }

  void attend_head(const Task& task, std::int32_t s, std::int32_t t, std::int32_t h,
                   std::int32_t heads) {
    const kernels::KvPages& cache = task.cache;
    const std::int32_t kv_head = h / (heads / cache.kv_heads);
    const auto size = static_cast<std::ptrdiff_t>(size_of(cache.dtype));
    const std::int64_t row = task.batch.first_row[s] + t;
    const std::int64_t end = task.batch.context[s] - task.batch.new_tokens[s] + t + 1;
    const kernels::AttentionRule& rule = task.rule;
    const std::int64_t begin = rule.window > 0 ? std::max(std::int64_t{0}, end - rule.window) : 0;
    const float slope = rule.alibi * kernels::alibi_slope(h, heads);
    const std::int64_t first = std::int64_t{h} * cache.head_dim;
    const DType dtype = task.views[1].dtype;
    std::byte* const out = task.views[0].row(row);
    const std::byte* const query = task.views[1].row(row);
    float most = -INFINITY;
    for (std::int64_t p = begin; p < end; ++p) {
      const std::byte* key = element(task, s, p, kv_head, 0);
      float dot = 0;
      for (std::int32_t d = 0; d < cache.head_dim; ++d) {
        dot += load_at(query, dtype, first + d) * load(key + d * size, cache.dtype);
      }
      float score = dot * rule.scale;
      if (rule.soft_cap > 0) score = rule.soft_cap * std::tanh(score / rule.soft_cap);
      score += slope * static_cast<float>(p - end + 1);
      scores_[static_cast<std::size_t>(p)] = score;
      most = std::max(most, score);
    }
    float sum = 0;
    for (std::int64_t p = begin; p < end; ++p) {
      float& score = scores_[static_cast<std::size_t>(p)];
      score = std::exp(score - most);
      sum += score;
    }
    if (rule.kept_millionths > 0) drop_values(begin, end - 1, rule.kept_millionths);
    for (std::int32_t d = 0; d < cache.head_dim; ++d) {
      float total = 0;
      for (std::int64_t p = begin; p < end; ++p) {
        total += scores_[static_cast<std::size_t>(p)] *
                 load(value(task, s, p, kv_head) + d * size, cache.dtype);
      }
      save(out + (first + d) * static_cast<std::int64_t>(size_of(dtype)), dtype, total / sum);
    }
  }

  BackendInfo info_;
  std::mt19937 random_;
  bool eager_;  // seed 0: everything at once, as if there were one lane
  bool filling_ = false;
  std::size_t favourite_ = 0;
  Queue lanes_[kLaneCount];
  std::vector<Range> ranges_;
  std::vector<float> scores_;
};

/// The two operations of a cache on one lane of a ShuffledBackend; the others are never called, and
/// refuse.
class ShuffledOps : public kernels::Ops {
 public:
  ShuffledOps(ShuffledBackend& backend, Lane lane) : backend_(backend), lane_(lane) {}
  void append_kv(const kernels::KvPages& cache, const kernels::KvBatch& batch, TensorView keys,
                 TensorView values) override {
    backend_.append(lane_, cache, batch, keys, values);
  }
  void attention(TensorView out, TensorView query, const kernels::KvPages& cache,
                 const kernels::KvBatch& batch, const kernels::AttentionRule& rule) override {
    backend_.attend(lane_, out, query, cache, batch, rule);
  }
  void gather(TensorView, const SplitMatrix&, const std::int32_t*) override { refuse(); }
  void gather_add(TensorView, const SplitMatrix&, const std::int32_t*) override { refuse(); }
  void select_rows(TensorView, TensorView, const std::int32_t*) override { refuse(); }
  void layer_norm(TensorView, TensorView, TensorView, TensorView, float) override { refuse(); }
  void rms_norm(TensorView, TensorView, TensorView, float, float) override { refuse(); }
  void rotate(TensorView, const kernels::Rotation&, const std::int32_t*) override { refuse(); }
  void scale(TensorView, float) override { refuse(); }
  void soft_cap(TensorView, float) override { refuse(); }
  void add(TensorView, TensorView) override { refuse(); }
  void widen_rows(TensorView, TensorView) override { refuse(); }
  void clear(TensorView) override { refuse(); }
  void clamp(TensorView, float) override { refuse(); }
  void route(const kernels::RoutedRows&, TensorView, TensorView,
             const kernels::RouterRule&) override {
    refuse();
  }
  void add_rows(TensorView, TensorView, const kernels::RowFactors&) override { refuse(); }
  void linear_times(TensorView, TensorView, const SplitMatrix&, TensorView, TensorView) override {
    refuse();
  }
  void linear(TensorView, TensorView, const SplitMatrix&, TensorView, kernels::Activation,
              TensorView) override {
    refuse();
  }

 private:
  [[noreturn]] static void refuse() {
    throw std::logic_error("an operation the cache never calls");
  }
  ShuffledBackend& backend_;
  Lane lane_;
};

inline kernels::Engine make_shuffled_engine(unsigned seed) {
  auto backend = std::make_unique<ShuffledBackend>(seed);
  ShuffledBackend& lanes = *backend;
  kernels::Engine engine;
  engine.device_ops = std::make_unique<ShuffledOps>(lanes, Lane::compute);
  engine.host_ops = std::make_unique<ShuffledOps>(lanes, Lane::host_compute);
  engine.backend = std::move(backend);
  return engine;
}

}  // namespace sluice::support
