// When the weight stream reads what: as far ahead as its staging goes, or not at all.
#include <gmock/gmock.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/engine.h"
#include "offload/disk/disk_requests.h"
#include "offload/weights/weight_stream.h"

namespace sluice::offload {
namespace {

constexpr int kReads = 4;  // of a layer: tensors that no file has side by side

std::vector<GroupSpec> layers_of_four(int count) {
  std::vector<GroupSpec> layers;
  for (int i = 0; i < count; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    layers.push_back({name,
                      {{name + "norm", 1, 37},
                       {name + "query", 37, 37},
                       {name + "fc1", 111, 37},
                       {name + "fc2", 37, 111}}});
  }
  return layers;
}

// A source whose reads are done when the test says so.
class HeldSource : public WeightSource {
 public:
  WeightInfo find(const WeightSpec& spec) override {
    return {DType::f16, spec.rows, spec.columns, 0};
  }
  void read(const WeightInfo&, std::uint64_t, std::size_t bytes, void* target,
            IoGroup& group) override {
    std::memset(target, 1, bytes);
    {
      const std::lock_guard lock(mutex_);
      if (open_) return;
      DiskEngineAccess::start(group, 1);
      held_.push_back(&group);
    }
    changed_.notify_all();
  }
  void keep_on_disk(const WeightInfo&, std::uint64_t, std::size_t) override {}
  void finish_one() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !held_.empty(); });
    IoGroup* group = held_.front();
    held_.pop_front();
    lock.unlock();
    DiskEngineAccess::finish(*group);
  }
  // From now on every read is done at once.
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    for (IoGroup* group : held_) DiskEngineAccess::finish(*group);
    held_.clear();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::deque<IoGroup*> held_;
};

TEST(WeightStream, AcquireWaitsForTheReadAndReadsGoAhead) {
  Trace trace(100);
  const kernels::Engine engine = kernels::make_cpu_engine({.device = "cpu", .threads = 1});
  HeldSource source;
  const auto layers = place_weights(layers_of_four(1), {0, 0, 100}, source);
  const WeightStreamOptions options{2, &trace};
  MemoryPlan plan;
  WeightStream::plan(layers, options, plan);
  Arena device(engine.backend->allocate_device(plan.total(Tier::device)), "device");
  Arena host(engine.backend->allocate_host(plan.total(Tier::host), false), "host");
  WeightStream stream(*engine.backend, source, layers, options, device, host);

  std::atomic<bool> finished{false};
  std::future<bool> early = std::async(std::launch::async, [&] {
    stream.release(stream.acquire(0, 7));
    return !finished.load();
  });
  for (int i = 0; i + 1 < kReads; ++i) source.finish_one();
  finished = true;
  source.finish_one();
  EXPECT_FALSE(early.get());
  // Without another acquire(): the next two items, and what the staging buffers hold (two items and
  // a half).
  for (int i = 0; i < 2 * kReads + 3; ++i) source.finish_one();
  stream.release(stream.acquire(0, 8));
  for (const Span& span : trace.spans()) {
    EXPECT_EQ(span.activity, Activity::wait_weights);
    EXPECT_EQ(span.layer, 0);
  }
  source.open();
}

// A source that counts its reads, each done at once.
class CountingSource : public HeldSource {
 public:
  CountingSource() { open(); }
  void read(const WeightInfo& info, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup& group) override {
    HeldSource::read(info, offset, bytes, target, group);
    ++reads;
  }
  std::atomic<int> reads{0};
};

TEST(WeightStream, WithoutOverlapNothingIsReadUntilTheLayerBeforeIsDone) {
  const kernels::Engine engine = kernels::make_cpu_engine({.device = "cpu", .threads = 1});
  CountingSource source;
  const auto layers = place_weights(layers_of_four(3), {0, 0, 100}, source);
  WeightStreamOptions options;
  options.overlap = false;
  MemoryPlan plan;
  WeightStream::plan(layers, options, plan);
  Arena device(engine.backend->allocate_device(plan.total(Tier::device)), "device");
  Arena host(engine.backend->allocate_host(plan.total(Tier::host), false), "host");
  struct Seen {
    CountingSource& source;
    int reads = 0;
  };
  std::vector<Seen> seen(9, Seen{source});
  WeightStream stream(*engine.backend, source, layers, options, device, host);
  for (std::int32_t i = 0; i < 9; ++i) {
    const WeightStream::Lease lease = stream.acquire(i % 3, 0);
    // Whatever is read from here to the end of the computing is in this number.
    engine.backend->call(
        Lane::compute,
        [](void* argument) {
          Seen& now = *static_cast<Seen*>(argument);
          now.reads = now.source.reads;
        },
        &seen[static_cast<std::size_t>(i)]);
    stream.release(lease);
  }
  engine.backend->synchronize(engine.backend->record(Lane::compute));
  for (int i = 0; i < 9; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)].reads, kReads * (i + 1));
}

}  // namespace
}  // namespace sluice::offload
