// A weight stream with all that it stands on, and checks of the bytes that a lease shows.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/engine.h"
#include "offload/weights/weight_stream.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/pattern_source.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {

using support::PatternSource;

// Puts checks on Lane::compute that compare a lease with the source's pattern.
class Checker {
 public:
  explicit Checker(std::size_t most) { jobs_.reserve(most); }

  void put(Backend& backend, const WeightStream::Lease& lease, const GroupPlacement& layer) {
    ASSERT_LT(jobs_.size(), jobs_.capacity());
    jobs_.push_back({&lease.tensor(0), &layer, &wrong_});
    backend.call(Lane::compute, run, &jobs_.back());
  }
  std::int64_t wrong_bytes() const { return wrong_.load(); }
  void forget() { jobs_.clear(); }

 private:
  struct Job {
    const SplitMatrix* tensors;
    const GroupPlacement* layer;
    std::atomic<std::int64_t>* wrong;
  };
  static void run(void* argument) {
    const Job& job = *static_cast<Job*>(argument);
    for (std::size_t t = 0; t < job.layer->tensors.size(); ++t) {
      const WeightInfo& info = job.layer->tensors[t].info;
      const SplitMatrix& matrix = job.tensors[t];
      if (matrix.rows() != info.rows) ++*job.wrong;
      if (info.rows > 0 && (matrix.columns() != info.columns || matrix.dtype() != info.dtype)) {
        ++*job.wrong;
      }
      std::uint64_t offset = 0;
      for (const TensorView& part : {matrix.resident, matrix.streamed}) {
        for (std::size_t i = 0; i < part.bytes(); ++i) {
          if (static_cast<std::byte*>(part.data)[i] != support::pattern_byte(info.key, offset++)) {
            ++*job.wrong;
          }
        }
      }
    }
  }
  std::vector<Job> jobs_;
  std::atomic<std::int64_t> wrong_{0};
};

// A stream with all that it stands on. Members go in reverse order.
struct Setting {
  Setting(const std::vector<GroupSpec>& specs, const Shares& shares, std::int32_t slots,
          bool allow_io_uring = true, std::vector<std::int32_t> order = {},
          std::unique_ptr<Backend> backend_of_test = nullptr)
      : engine(kernels::make_cpu_engine({.device = "cpu", .threads = 1, .trace = &trace})),
        other_backend(std::move(backend_of_test)),
        disk(DiskEngine::make({.allow_io_uring = allow_io_uring})),
        source(disk, folder.path()),
        layers(place_weights(specs, shares, source)),
        options{slots, &trace, true, std::move(order)} {
    WeightStream::plan(layers, options, plan);
    device = Arena(backend().allocate_device(plan.total(Tier::device)), "device");
    host = Arena(backend().allocate_host(plan.total(Tier::host), false), "host");
  }
  Backend& backend() { return other_backend ? *other_backend : *engine.backend; }
  std::unique_ptr<WeightStream> start() {
    return std::make_unique<WeightStream>(backend(), source, layers, options, device, host);
  }
  // One layer as the executor does it.
  void step(WeightStream& stream, std::int32_t layer, Checker& checker) {
    const WeightStream::Lease lease = stream.acquire(layer, 0);
    checker.put(backend(), lease, layers[static_cast<std::size_t>(layer)]);
    stream.release(lease);
  }
  void finish_compute() { backend().synchronize(backend().record(Lane::compute)); }

  support::ScratchFolder folder;
  Trace trace{0};
  kernels::Engine engine;
  std::unique_ptr<Backend> other_backend;
  support::FaultyDisk disk;
  PatternSource source;
  std::vector<GroupPlacement> layers;
  WeightStreamOptions options;
  MemoryPlan plan;
  Arena device;
  Arena host;
};

inline const Shares kPlacements[] = {{100, 0, 0}, {0, 100, 0},    {0, 0, 100}, {30, 40, 30},
                                     {50, 50, 0}, {50, 0, 50},    {0, 50, 50}, {1, 1, 98},
                                     {90, 5, 5},  {33.3, 66.7, 0}};

}  // namespace sluice::offload
