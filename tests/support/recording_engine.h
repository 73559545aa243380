// An engine that does nothing and remembers everything: what was put on which lane, by which
// thread, over which memory, and what must be done before it. From that follows the order that is
// certain, whatever the speed of lanes and threads: that of a lane, among what one thread puts
// there; that of events a lane waits for; and that of a thread, which puts later what it puts after
// it has waited.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/device/backend.h"
#include "kernels/ops.h"

namespace sluice::support {

/// A set of operations, by index.
class OperationSet {
 public:
  void insert(std::size_t index) {
    if (words_.size() <= index / 64) words_.resize(index / 64 + 1, 0);
    words_[index / 64] |= std::uint64_t{1} << (index % 64);
  }
  bool contains(std::size_t index) const {
    return index / 64 < words_.size() && ((words_[index / 64] >> (index % 64)) & 1U) != 0;
  }
  OperationSet& operator|=(const OperationSet& other) {
    if (words_.size() < other.words_.size()) words_.resize(other.words_.size(), 0);
    for (std::size_t i = 0; i < other.words_.size(); ++i) words_[i] |= other.words_[i];
    return *this;
  }

 private:
  std::vector<std::uint64_t> words_;
};

struct Operation {
  enum class Kind : std::uint8_t { mark, copy, call, product, cache, other, message, disk };
  Kind kind = Kind::mark;
  Lane lane = Lane::compute;  // of messages and the disk: Lane::send, Lane::receive
  int thread = 0;             // 0: the one that made the recorder
  const void* target = nullptr;
  const void* source = nullptr;
  std::size_t bytes = 0;
  std::int64_t context = -1;  // Recorder::set_context() of this thread, when it was put
  OperationSet before;        // what must be done before it
};

/// Any thread.
class Recorder {
 public:
  Recorder() { threads_[std::this_thread::get_id()] = 0; }

  /// What the calling thread does from here on.
  void set_context(std::int64_t context) {
    const std::lock_guard lock(mutex_);
    contexts_[thread()] = context;
  }

  std::size_t add(Operation operation) {
    const std::lock_guard lock(mutex_);
    return put(std::move(operation));
  }
  /// The calling thread has learned that an operation is done.
  void know(std::size_t index) {
    const std::lock_guard lock(mutex_);
    learn(known_[thread()], index);
  }

  Event record(Lane lane) {
    const std::lock_guard lock(mutex_);
    Operation mark;
    mark.lane = lane;
    const std::size_t index = put(std::move(mark));
    const std::uint64_t ticket = ++tickets_[lane];
    events_[{lane, ticket}] = {index, known_[thread()]};
    return {lane, ticket};
  }
  void wait(Lane lane, Event event) {
    const std::lock_guard lock(mutex_);
    if (event.ticket != 0) learn(waits_[{lane, thread()}], meet(event));
  }
  void synchronize(Event event) {
    const std::lock_guard lock(mutex_);
    if (event.ticket != 0) learn(known_[thread()], meet(event));
  }

  /// When no other thread uses it any more.
  const std::vector<Operation>& operations() const { return operations_; }
  /// As they are now.
  std::vector<Operation> take() {
    const std::lock_guard lock(mutex_);
    return operations_;
  }

 private:
  int thread() {
    return threads_.try_emplace(std::this_thread::get_id(), static_cast<int>(threads_.size()))
        .first->second;
  }
  /// Whoever has an event has it from the thread that recorded it, and comes after what that thread
  /// had waited for.
  std::size_t meet(Event event) {
    const Recorded& recorded = events_.at({event.lane, event.ticket});
    known_[thread()] |= recorded.known;
    return recorded.operation;
  }
  void learn(OperationSet& set, std::size_t index) {
    set |= operations_[index].before;
    set.insert(index);
  }
  std::size_t put(Operation operation) {
    operation.thread = thread();
    if (const auto found = contexts_.find(operation.thread); found != contexts_.end()) {
      operation.context = found->second;
    }
    const std::pair<Lane, int> queue{operation.lane, operation.thread};
    operation.before = known_[operation.thread];
    operation.before |= waits_[queue];
    if (const auto last = last_.find(queue); last != last_.end()) {
      learn(operation.before, last->second);
    }
    operations_.push_back(std::move(operation));
    return last_[queue] = operations_.size() - 1;
  }

  std::mutex mutex_;
  std::map<std::thread::id, int> threads_;
  std::map<int, std::int64_t> contexts_;
  std::vector<Operation> operations_;
  std::map<int, OperationSet> known_;                   // by thread
  std::map<std::pair<Lane, int>, OperationSet> waits_;  // by lane and thread
  std::map<std::pair<Lane, int>, std::size_t> last_;    // likewise
  std::map<Lane, std::uint64_t> tickets_;
  struct Recorded {
    std::size_t operation = 0;
    OperationSet known;  // to the thread that recorded it
  };
  std::map<std::pair<Lane, std::uint64_t>, Recorded> events_;
};

class RecordingBackend final : public Backend {
 public:
  explicit RecordingBackend(Recorder& recorder) : recorder_(recorder) { info_.kind = "recording"; }
  const BackendInfo& info() const override { return info_; }
  Memory allocate_device(std::size_t bytes) override { return allocate(bytes); }
  Memory allocate_host(std::size_t bytes, bool) override { return allocate(bytes); }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    Operation copy;
    copy.kind = Operation::Kind::copy;
    copy.lane = lane;
    copy.target = target;
    copy.source = source;
    copy.bytes = bytes;
    recorder_.add(std::move(copy));
  }
  void call(Lane lane, void (*)(void*), void*) override {
    Operation call;
    call.kind = Operation::Kind::call;
    call.lane = lane;
    recorder_.add(std::move(call));
  }
  Event record(Lane lane) override { return recorder_.record(lane); }
  void wait(Lane lane, Event event) override { recorder_.wait(lane, event); }
  /// Never sooner than somebody waits for it.
  bool done(Event event) override { return event.ticket == 0; }
  void synchronize(Event event) override { recorder_.synchronize(event); }

 private:
  static Memory allocate(std::size_t bytes) {
    if (bytes == 0) return {};
    const std::size_t whole = (bytes + 8191) / 4096 * 4096;
    void* data = std::aligned_alloc(4096, whole);
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0, whole);
    return Memory(data, bytes, [](void* memory, std::size_t) { std::free(memory); });
  }
  Recorder& recorder_;
  BackendInfo info_;
};

class RecordingOps final : public kernels::Ops {
 public:
  RecordingOps(Recorder& recorder, Lane lane) : recorder_(recorder), lane_(lane) {}
  void gather(TensorView out, const SplitMatrix&, const std::int32_t* ids) override {
    add(Operation::Kind::other, out.data, ids);
  }
  void gather_add(TensorView out, const SplitMatrix&, const std::int32_t* ids) override {
    add(Operation::Kind::other, out.data, ids);
  }
  void select_rows(TensorView out, TensorView in, const std::int32_t*) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void layer_norm(TensorView out, TensorView in, TensorView, TensorView, float) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void rms_norm(TensorView out, TensorView in, TensorView, float, float) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void rotate(TensorView rows, const kernels::Rotation&, const std::int32_t* positions) override {
    add(Operation::Kind::other, rows.data, positions);
  }
  void scale(TensorView rows, float) override { add(Operation::Kind::other, rows.data, rows.data); }
  void soft_cap(TensorView rows, float) override {
    add(Operation::Kind::other, rows.data, rows.data);
  }
  void add(TensorView out, TensorView in) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void widen_rows(TensorView out, TensorView in) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void clear(TensorView rows) override { add(Operation::Kind::other, rows.data, rows.data); }
  void clamp(TensorView rows, float) override { add(Operation::Kind::other, rows.data, rows.data); }
  void route(const kernels::RoutedRows& routed, TensorView logits, TensorView,
             const kernels::RouterRule&) override {
    add(Operation::Kind::other, routed.counts, logits.data);
  }
  void add_rows(TensorView out, TensorView in, const kernels::RowFactors&) override {
    add(Operation::Kind::other, out.data, in.data);
  }
  void linear(TensorView out, TensorView in, const SplitMatrix&, TensorView, kernels::Activation,
              TensorView) override {
    add(Operation::Kind::product, out.data, in.data);
  }
  void linear_times(TensorView out, TensorView in, const SplitMatrix&, TensorView,
                    TensorView) override {
    add(Operation::Kind::product, out.data, in.data);
  }
  void append_kv(const kernels::KvPages& cache, const kernels::KvBatch&, TensorView keys,
                 TensorView) override {
    add(Operation::Kind::cache, cache.base, keys.data);
  }
  void attention(TensorView out, TensorView, const kernels::KvPages& cache, const kernels::KvBatch&,
                 const kernels::AttentionRule&) override {
    add(Operation::Kind::cache, out.data, cache.base);
  }
  void sample(kernels::SampledRow* out, TensorView logits, const kernels::SampleRow*,
              const kernels::SampleLists&) override {
    add(Operation::Kind::other, out, logits.data);
  }

 private:
  void add(Operation::Kind kind, const void* target, const void* source) {
    Operation operation;
    operation.kind = kind;
    operation.lane = lane_;
    operation.target = target;
    operation.source = source;
    recorder_.add(std::move(operation));
  }
  Recorder& recorder_;
  Lane lane_;
};

/// `recorder` must outlive the engine.
inline kernels::Engine make_recording_engine(Recorder& recorder) {
  kernels::Engine engine;
  engine.backend = std::make_unique<RecordingBackend>(recorder);
  engine.device_ops = std::make_unique<RecordingOps>(recorder, Lane::compute);
  engine.host_ops = std::make_unique<RecordingOps>(recorder, Lane::host_compute);
  return engine;
}

}  // namespace sluice::support
