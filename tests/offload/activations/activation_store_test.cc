#include "offload/activations/activation_store.h"

#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <memory>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/support/allocation_count.h"
#include "tests/support/faulty_disk.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

const Shares kPlacements[] = {{100, 0, 0}, {0, 100, 0}, {0, 0, 100}, {30, 40, 30}, {50, 50, 0},
                              {50, 0, 50}, {0, 50, 50}, {1, 1, 98},  {98, 1, 1},   {33.3, 66.7, 0}};

// The hidden states of a GPU batch after a layer: every element says whose it is.
float value_of(std::int32_t gpu_batch, std::int32_t layer, std::int64_t element) {
  return static_cast<float>(gpu_batch * 1000003 + layer * 10007) + static_cast<float>(element);
}

// Work on Lane::compute: checks what the layer before left (layer > 0) and leaves its own.
class Compute {
 public:
  explicit Compute(std::size_t most) { jobs_.reserve(most); }
  void put(Backend& backend, TensorView view, std::int32_t gpu_batch, std::int32_t layer) {
    ASSERT_LT(jobs_.size(), jobs_.capacity());
    jobs_.push_back({view, gpu_batch, layer, &wrong_});
    backend.call(Lane::compute, run, &jobs_.back());
  }
  std::int64_t wrong() const { return wrong_.load(); }

 private:
  struct Job {
    TensorView view;
    std::int32_t gpu_batch;
    std::int32_t layer;
    std::atomic<std::int64_t>* wrong;
  };
  static void run(void* argument) {
    const Job& job = *static_cast<Job*>(argument);
    auto* data = static_cast<float*>(job.view.data);
    for (std::int64_t i = 0; i < job.view.rows * job.view.columns; ++i) {
      if (job.layer > 0 && data[i] != value_of(job.gpu_batch, job.layer - 1, i)) ++*job.wrong;
      data[i] = value_of(job.gpu_batch, job.layer, i);
    }
  }
  std::vector<Job> jobs_;
  std::atomic<std::int64_t> wrong_{0};
};

struct Setting {
  Setting(const ActivationShape& wanted, const Shares& with, bool allow_io_uring = true)
      : shape(wanted),
        shares(with),
        engine(kernels::make_cpu_engine({.device = "cpu", .threads = 1})),
        run_folder(folder.path(), 0),
        disk(DiskEngine::make({.allow_io_uring = allow_io_uring})) {
    ActivationStore::plan(shape, shares, plan);
    device = Arena(backend().allocate_device(plan.total(Tier::device)), "device");
    host = Arena(backend().allocate_host(plan.total(Tier::host), false), "host");
  }
  Backend& backend() { return *engine.backend; }
  std::unique_ptr<ActivationStore> start() {
    return std::make_unique<ActivationStore>(backend(), shape, shares, device, host, &disk,
                                             &run_folder, &trace);
  }
  void finish_compute() { backend().synchronize(backend().record(Lane::compute)); }
  // All GPU batches through one layer, as the executor does it.
  void layer(ActivationStore& store, Compute& compute, std::int32_t number, bool prefetch,
             const std::vector<std::int64_t>& tokens) {
    for (std::int32_t b = 0; b < shape.gpu_batches; ++b) {
      const TensorView view = store.open(b, tokens[static_cast<std::size_t>(b)], number == 0);
      EXPECT_EQ(view.rows, tokens[static_cast<std::size_t>(b)]);
      EXPECT_EQ(view.columns, shape.width);
      const std::int32_t next = (b + 1) % shape.gpu_batches;
      if (prefetch && number > 0 && next > b) {
        store.prefetch(next, tokens[static_cast<std::size_t>(next)]);
      }
      compute.put(backend(), view, b, number);
      store.close(b, true);
    }
  }

  ActivationShape shape;
  Shares shares;
  Trace trace{0};
  kernels::Engine engine;
  support::ScratchFolder folder;
  RunFolder run_folder;
  support::FaultyDisk disk;
  MemoryPlan plan;
  Arena device;
  Arena host;
};

TEST(ActivationStore, EveryLayerFindsWhatTheOneBeforeLeft) {
  for (const Shares& shares : kPlacements) {
    for (const std::int32_t batches : {1, 2, 3, 5}) {
      for (const bool prefetch : {false, true}) {
        Setting setting({batches, 29, 33, DType::f32}, shares, prefetch);
        const auto store = setting.start();
        Compute compute(1000);
        for (std::int32_t pass = 0; pass < 3; ++pass) {
          std::vector<std::int64_t> tokens;
          for (std::int32_t b = 0; b < batches; ++b) tokens.push_back((pass * 13 + b * 7) % 29 + 1);
          for (std::int32_t layer = 0; layer < 6; ++layer) {
            setting.layer(*store, compute, layer, prefetch, tokens);
          }
        }
        setting.finish_compute();
        EXPECT_EQ(compute.wrong(), 0) << shares.device << "/" << shares.host << "/" << shares.disk
                                      << ", " << batches << " batches, prefetch " << prefetch;
      }
    }
  }
}

TEST(ActivationStore, EveryTokenCountIsExact) {
  for (const Shares& shares : {Shares{30, 40, 30}, Shares{45, 10, 45}, Shares{33, 33, 34}}) {
    Setting setting({2, 40, 5, DType::f32}, shares);
    const auto store = setting.start();
    Compute compute(400);
    for (std::int64_t tokens = 0; tokens <= 40; ++tokens) {
      for (std::int32_t layer = 0; layer < 3; ++layer) {
        setting.layer(*store, compute, layer, false, {tokens, 40 - tokens});
      }
    }
    setting.finish_compute();
    EXPECT_EQ(compute.wrong(), 0);
  }
}

TEST(ActivationStore, TwoAreOpenAtATime) {
  for (const Shares& shares : kPlacements) {
    Setting setting({4, 8, 16, DType::f32}, shares);
    const auto store = setting.start();
    Compute compute(400);
    for (std::int32_t layer = 0; layer < 6; ++layer) {
      for (std::int32_t b = 0; b < 4; b += 2) {
        const TensorView first = store->open(b, 8, layer == 0);
        const TensorView second = store->open(b + 1, 7, layer == 0);
        EXPECT_NE(first.data, second.data);
        store->prefetch((b + 2) % 4, 8);  // no buffer for it: nothing happens
        compute.put(setting.backend(), second, b + 1, layer);
        compute.put(setting.backend(), first, b, layer);
        store->close(b, true);
        store->close(b + 1, true);
      }
    }
    setting.finish_compute();
    EXPECT_EQ(compute.wrong(), 0);
  }
}

TEST(ActivationStore, TakesExactlyWhatWasPlanned) {
  for (const Shares& shares : kPlacements) {
    for (const std::int64_t tokens : {1, 2, 7, 64}) {
      for (const std::int64_t width : {1, 16, 33}) {
        for (const std::int32_t batches : {1, 3}) {
          Setting setting({batches, tokens, width, DType::f32}, shares);
          const auto store = setting.start();
          EXPECT_EQ(setting.device.used(), setting.plan.total(Tier::device));
          EXPECT_EQ(setting.host.used(), setting.plan.total(Tier::host));
          const auto file = setting.run_folder.path() / "activations";
          const std::uint64_t on_disk =
              std::filesystem::exists(file) ? std::filesystem::file_size(file) : 0;
          EXPECT_EQ(on_disk, setting.plan.total(Tier::disk));
          if (shares.disk == 0) {
            EXPECT_EQ(on_disk, 0U);
          }
          if (shares.host == 0 && shares.disk == 0) {
            EXPECT_EQ(setting.host.used(), 0U);
          }
        }
      }
    }
  }
}

// Rows that change only in what they weigh: half of everything, bytes that come back as they were.
TEST(ActivationStore, RowsOfSixteenBitsTakeHalfAndComeBack) {
  for (const Shares& shares : kPlacements) {
    MemoryPlan wide;
    ActivationStore::plan({3, 64, 64, DType::f32}, shares, wide);
    // 32 floats a row to Compute, which are 64 elements of 16 bits.
    Setting setting({3, 64, 64, DType::bf16}, shares);
    EXPECT_EQ(wide.total(Tier::device), 2 * setting.plan.total(Tier::device));
    EXPECT_LE(setting.plan.total(Tier::host), wide.total(Tier::host));
    const auto store = setting.start();
    Compute compute(100);
    for (std::int32_t layer = 0; layer < 5; ++layer) {
      for (std::int32_t b = 0; b < 3; ++b) {
        TensorView view = store->open(b, 64 - b, layer == 0);
        EXPECT_EQ(view.dtype, DType::bf16);
        EXPECT_EQ(view.row_bytes(), 128U);
        compute.put(setting.backend(), {view.data, DType::f32, view.rows, view.columns / 2}, b,
                    layer);
        store->close(b, true);
      }
    }
    setting.finish_compute();
    EXPECT_EQ(compute.wrong(), 0);
  }
}

TEST(ActivationStore, SharesAreMetWithinARow) {
  // 100 tokens of 64 bytes: shares are rows.
  const ActivationShape shape{1, 100, 16, DType::f32};
  MemoryPlan plan;
  ActivationStore::plan(shape, {20, 30, 50}, plan);
  EXPECT_EQ(plan.total(Tier::device), 2U * 6400 + 20 * 64);
  EXPECT_EQ(plan.total(Tier::disk), 4096U);  // 50 rows are 3200 bytes, in whole pages
  std::uint64_t host = 0;
  for (const Reservation& reservation : plan.reservations()) {
    if (reservation.tier == Tier::host && reservation.purpose == "activations") {
      host = reservation.bytes;
    }
  }
  EXPECT_EQ(host, 30U * 64);
}

TEST(ActivationStore, WithAllOnTheDeviceNothingMoves) {
  Trace trace(0);
  const kernels::Engine engine =
      kernels::make_cpu_engine({.device = "cpu", .threads = 1, .trace = &trace});
  const ActivationShape shape{3, 4, 8, DType::f32};
  MemoryPlan plan;
  ActivationStore::plan(shape, {}, plan);
  Arena device(engine.backend->allocate_device(plan.total(Tier::device)), "device");
  Arena host;
  ActivationStore store(*engine.backend, shape, {}, device, host, nullptr, nullptr, nullptr);
  for (int round = 0; round < 3; ++round) {
    for (std::int32_t b = 0; b < 3; ++b) {
      store.open(b, 4, round == 0);
      store.close(b, true);
    }
  }
  EXPECT_EQ(trace.bytes(Activity::host_to_device) + trace.bytes(Activity::device_to_host), 0U);
}

TEST(ActivationStore, ABufferWaitsForTheSendThatReadsIt) {
  for (const Shares& shares : {Shares{100, 0, 0}, Shares{0, 100, 0}, Shares{0, 50, 50}}) {
    Setting setting({1, 4, 8, DType::f32}, shares);
    const auto store = setting.start();
    Compute compute(20);
    std::promise<void> gate;
    std::future<void> opened = gate.get_future();
    setting.backend().call(
        Lane::device_to_host, [](void* future) { static_cast<std::future<void>*>(future)->wait(); },
        &opened);
    const TensorView sent = store->open(0, 4, true);
    compute.put(setting.backend(), sent, 0, 0);
    std::vector<float> message(32);
    setting.backend().wait(Lane::device_to_host, setting.backend().record(Lane::compute));
    setting.backend().copy(Lane::device_to_host, message.data(), sent.data, sent.bytes());
    const Event gone = setting.backend().record(Lane::device_to_host);
    store->close(0, false, gone);
    // The next uses of both buffers, enqueued while the send has not begun.
    for (std::int32_t i = 0; i < 2; ++i) {
      const TensorView next = store->open(0, 4, true);
      compute.put(setting.backend(), next, 5, 0);
      store->close(0, false);
    }
    gate.set_value();
    setting.backend().synchronize(gone);
    for (std::int64_t i = 0; i < 32; ++i) {
      EXPECT_EQ(message[static_cast<std::size_t>(i)], value_of(0, 0, i));
    }
    setting.finish_compute();
  }
}

TEST(ActivationStore, WhatWasPrefetchedMayBeOpenedFresh) {
  for (const Shares& shares : {Shares{0, 100, 0}, Shares{30, 40, 30}, Shares{0, 0, 100}}) {
    Setting setting({2, 16, 16, DType::f32}, shares);
    const auto store = setting.start();
    Compute compute(200);
    for (int round = 0; round < 20; ++round) {
      setting.layer(*store, compute, 0, false, {16, 16});
      store->prefetch(0, 16);
      setting.layer(*store, compute, 0, false, {16, 16});
      setting.layer(*store, compute, 1, true, {16, 16});
    }
    setting.finish_compute();
    EXPECT_EQ(compute.wrong(), 0);
  }
}

TEST(ActivationStore, NothingIsAllocatedOnceItRuns) {
  for (const bool io_uring : {true, false}) {
    Setting setting({3, 16, 16, DType::f32}, {30, 40, 30}, io_uring);
    const auto store = setting.start();
    Compute compute(400);
    const std::vector<std::int64_t> tokens = {16, 9, 3};
    for (std::int32_t layer = 0; layer < 4; ++layer) {
      setting.layer(*store, compute, layer, true, tokens);
    }
    const std::int64_t before = support::allocation_count();
    for (std::int32_t layer = 4; layer < 60; ++layer) {
      setting.layer(*store, compute, layer, true, tokens);
    }
    setting.finish_compute();
    EXPECT_EQ(support::allocation_count() - before, 0);
    EXPECT_EQ(compute.wrong(), 0);
  }
}

// ---------------------------------------------------------------------------------------- faults

TEST(ActivationStore, EveryRequestCanFailAndNothingHangs) {
  for (const Shares& shares : {Shares{30, 40, 30}, Shares{0, 0, 100}}) {
    bool whole = false;
    for (std::int64_t k = 0; !whole; ++k) {
      ASSERT_LT(k, 100);
      Setting setting({3, 8, 8, DType::f32}, shares, k % 2 == 0);
      setting.disk.fail_request(k, true);
      Compute compute(100);
      {
        const auto store = setting.start();
        try {
          for (std::int32_t layer = 0; layer < 4; ++layer) {
            setting.layer(*store, compute, layer, k % 3 == 0, {8, 5, 1});
          }
          whole = true;
        } catch (const CapacityError& failure) {
          EXPECT_STREQ(failure.what(), "injected failure");
          EXPECT_TRUE(setting.disk.failed());
        }
      }
      setting.finish_compute();
      EXPECT_EQ(compute.wrong(), 0);
    }
  }
}

TEST(ActivationStore, DestroyedAtAnyMomentItEnds) {
  for (const Shares& shares : kPlacements) {
    for (std::int32_t steps = 0; steps < 6; ++steps) {
      Setting setting({3, 8, 8, DType::f32}, shares);
      Compute compute(100);
      {
        const auto store = setting.start();
        for (std::int32_t layer = 0; layer < steps; ++layer) {
          setting.layer(*store, compute, layer, true, {8, 5, 1});
        }
        if (steps > 0) store->prefetch(1, 5);
        compute.put(setting.backend(), store->open(0, 8, true), 0, 0);
      }
      EXPECT_EQ(compute.wrong(), 0);
    }
  }
}

TEST(ActivationStore, AShareOnDiskNeedsADisk) {
  Setting setting({1, 8, 8, DType::f32}, {0, 0, 100});
  EXPECT_THROW(ActivationStore(setting.backend(), setting.shape, setting.shares, setting.device,
                               setting.host, nullptr, nullptr, nullptr),
               ConfigError);
}

}  // namespace
}  // namespace sluice::offload
