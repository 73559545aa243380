#include "offload/weights/weight_stream.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <filesystem>
#include <future>
#include <random>
#include <string>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "tests/offload/weights/stream_setting.h"
#include "tests/support/allocation_count.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using support::PatternSource;
using testing::HasSubstr;

// Ragged on purpose: no row is a multiple of 64 bytes, some tensors are vectors or absent.
std::vector<GroupSpec> small_layers(int count) {
  std::vector<GroupSpec> layers;
  for (int i = 0; i < count; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    layers.push_back({name,
                      {{name + "norm", 1, 37},
                       {"", 0, 0},
                       {name + "query", 37, 37},
                       {name + "fc1", 111, 37},
                       {name + "fc2", 37, 111}}});
  }
  return layers;
}

TEST(WeightStream, ComputeSeesTheSourcesBytesWhereverTheyLie) {
  for (const Shares& shares : kPlacements) {
    for (const std::int32_t slots : {2, 3, 1}) {
      for (const int layers : {1, 2, 5}) {
        Setting setting(small_layers(layers), shares, slots, slots != 3);
        const auto stream = setting.start();
        EXPECT_EQ(stream->group_count(), layers);
        Checker checker(100);
        for (int cycle = 0; cycle < 6; ++cycle) {
          for (std::int32_t layer = 0; layer < layers; ++layer) {
            setting.step(*stream, layer, checker);
          }
        }
        setting.finish_compute();
        EXPECT_EQ(checker.wrong_bytes(), 0) << shares.device << "/" << shares.host << "/"
                                            << shares.disk << ", " << slots << " slots";
      }
    }
  }
}

TEST(WeightStream, AsManyLeasesAsSlotsAreHeldAtATime) {
  for (const std::int32_t slots : {2, 3}) {
    Setting setting(small_layers(5), {0, 50, 50}, slots);
    const auto stream = setting.start();
    Checker checker(100);
    std::deque<WeightStream::Lease> held;
    for (std::int32_t i = 0; i < 40; ++i) {
      const auto layer = static_cast<std::size_t>(i % 5);
      held.push_back(stream->acquire(i % 5, i));
      checker.put(setting.backend(), held.back(), setting.layers[layer]);
      if (held.size() == static_cast<std::size_t>(slots)) {
        stream->release(held.front());
        held.pop_front();
      }
    }
    setting.finish_compute();
    EXPECT_EQ(checker.wrong_bytes(), 0);
  }
}

TEST(WeightStream, ALargeLayerAmongSmallOnesHarmsNoNeighbour) {
  std::vector<GroupSpec> layers = {{"embedding", {{"table", 400, 64}}}};
  for (int l = 0; l < 4; ++l) {
    layers.push_back({"layer", {{"w" + std::to_string(l), 16 + 8 * l, 64}}});
  }
  for (const Shares& shares : kPlacements) {
    for (const std::int32_t slots : {2, 3, 4, 5}) {
      Setting setting(layers, shares, slots);
      const auto stream = setting.start();
      Checker checker(60);
      for (std::int32_t i = 0; i < 60; ++i) setting.step(*stream, i % 5, checker);
      setting.finish_compute();
      EXPECT_EQ(checker.wrong_bytes(), 0);
    }
  }
}

TEST(WeightStream, ASlotIsNotRefilledBeforeComputeHasPassedItsRelease) {
  Setting setting(small_layers(4), {0, 100, 0}, 2);
  const auto stream = setting.start();
  Checker checker(100);
  std::promise<void> gate;
  std::future<void> opened = gate.get_future();
  setting.backend().call(
      Lane::compute, [](void* future) { static_cast<std::future<void>*>(future)->wait(); },
      &opened);
  // Both are released before compute has read a byte of them.
  setting.step(*stream, 0, checker);
  setting.step(*stream, 1, checker);
  std::future<void> rest = std::async(std::launch::async, [&] {
    for (std::int32_t i = 2; i < 40; ++i) setting.step(*stream, i % 4, checker);
  });
  // Copies that a wrong ring would make now are given every chance to be done before compute goes
  // on.
  for (int i = 0; i < 1000; ++i) {
    setting.backend().synchronize(setting.backend().record(Lane::host_to_device));
  }
  gate.set_value();
  rest.get();
  setting.finish_compute();
  EXPECT_EQ(checker.wrong_bytes(), 0);
}

TEST(WeightStream, TakesExactlyWhatWasPlanned) {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    std::vector<GroupSpec> specs;
    const auto layers = 1 + random() % 4;
    for (unsigned l = 0; l < layers; ++l) {
      GroupSpec layer{"layer", {}};
      const auto tensors = 1 + random() % 4;
      for (unsigned t = 0; t < tensors; ++t) {
        layer.tensors.push_back({std::to_string(l) + "." + std::to_string(t),
                                 static_cast<std::int64_t>(1 + random() % 50),
                                 static_cast<std::int64_t>(1 + random() % 50)});
      }
      specs.push_back(layer);
    }
    const Shares& shares = kPlacements[static_cast<unsigned>(round) % std::size(kPlacements)];
    Setting setting(specs, shares, 2 + round % 2);
    const auto stream = setting.start();
    EXPECT_EQ(setting.device.used(), setting.plan.total(Tier::device));
    EXPECT_EQ(setting.host.used(), setting.plan.total(Tier::host));
    EXPECT_EQ(setting.plan.total(Tier::disk), 0U);  // what is there already costs nothing
    if (shares.disk == 0) {
      EXPECT_TRUE(setting.source.kept().empty());
    }
  }
}

TEST(WeightStream, DeviceRowsLargerThanTheStagingBlockAreLoadedInPieces) {
  // 40 MiB, through a block of 32 MiB.
  Setting setting({{"embedding", {{"table", 20480, 1024}}}}, {100, 0, 0}, 2);
  std::uint64_t staging = 0;
  for (const Reservation& reservation : setting.plan.reservations()) {
    if (reservation.purpose == "weight staging") staging = reservation.bytes;
  }
  EXPECT_EQ(staging, (32U << 20U) + 4096U);
  const auto stream = setting.start();
  Checker checker(1);
  setting.step(*stream, 0, checker);
  setting.finish_compute();
  EXPECT_EQ(checker.wrong_bytes(), 0);
}

TEST(WeightStream, ATableTiedToTheHeadIsThereOnce) {
  const std::vector<GroupSpec> tied = {{"embedding", {{"tokens", 100, 32}, {"positions", 10, 32}}},
                                       {"layer", {{"w", 32, 32}}},
                                       {"head", {{"norm", 1, 32}, {"tokens", 100, 32}}}};
  Setting whole(tied, {100, 0, 0}, 2);
  const auto stream = whole.start();
  EXPECT_EQ(whole.device.used(), whole.plan.total(Tier::device));
  EXPECT_EQ(whole.plan.total(Tier::device), 6400U + 640U + 2048U + 64U);
  const void* table = stream->acquire(0, 0).tensor(0).resident.data;
  stream->acquire(1, 0);
  EXPECT_EQ(stream->acquire(2, 0).tensor(1).resident.data, table);

  // With rows elsewhere in one of them, each has its own.
  Setting split(tied, {60, 40, 0}, 2);
  const auto other = split.start();
  EXPECT_EQ(split.device.used(), split.plan.total(Tier::device));
  Checker checker(20);
  for (std::int32_t i = 0; i < 12; ++i) split.step(*other, i % 3, checker);
  split.finish_compute();
  EXPECT_EQ(checker.wrong_bytes(), 0);
}

TEST(WeightStream, ProgressAndDiskRangesCoverEveryByteOnce) {
  Setting setting(small_layers(3), {30, 40, 30}, 2);
  std::uint64_t loaded = 0;
  const WeightStream stream(
      setting.backend(), setting.source, setting.layers, setting.options, setting.device,
      setting.host,
      [](std::uint64_t bytes, void* sum) { *static_cast<std::uint64_t*>(sum) += bytes; }, &loaded);
  std::uint64_t kept = 0;
  for (const PatternSource::Range& range : setting.source.kept()) kept += range.bytes;
  std::uint64_t total = 0;
  std::uint64_t on_disk = 0;
  for (const GroupPlacement& layer : setting.layers) {
    total += layer.total_bytes();
    on_disk += layer.bytes(Tier::disk);
  }
  EXPECT_EQ(kept, on_disk);
  EXPECT_EQ(loaded + kept, total);
}

TEST(WeightStream, NothingIsAllocatedOnceItRuns) {
  for (const bool io_uring : {true, false}) {
    Setting setting(small_layers(4), {30, 40, 30}, 2, io_uring);
    const auto stream = setting.start();
    Checker checker(400);
    for (std::int32_t i = 0; i < 40; ++i) setting.step(*stream, i % 4, checker);
    const std::int64_t before = support::allocation_count();
    for (std::int32_t i = 0; i < 200; ++i) setting.step(*stream, i % 4, checker);
    setting.finish_compute();
    EXPECT_EQ(support::allocation_count() - before, 0);
    EXPECT_EQ(checker.wrong_bytes(), 0);
  }
}

// What the run itself puts on disk is planned, and reserved before the first byte is loaded.
TEST(WeightStream, WeightsWrittenByTheRunCountAgainstTheDisk) {
  support::ScratchFolder folder;
  const kernels::Engine engine = kernels::make_cpu_engine({.device = "cpu", .threads = 1});
  const auto disk = DiskEngine::make({});
  for (const Shares& shares : {Shares{0, 0, 100}, Shares{30, 30, 40}, Shares{50, 50, 0}}) {
    const auto source = make_dummy_source(DType::f32, *disk, folder.path());
    const auto layers = place_weights(small_layers(3), shares, *source);
    MemoryPlan plan;
    WeightStream::plan(layers, {}, plan);
    Arena device(engine.backend->allocate_device(plan.total(Tier::device)), "device");
    Arena host(engine.backend->allocate_host(plan.total(Tier::host), false), "host");
    const std::filesystem::path file = folder.path() / "dummy-weights.bin";
    {
      const WeightStream stream(*engine.backend, *source, layers, {}, device, host);
      EXPECT_EQ(std::filesystem::exists(file) ? std::filesystem::file_size(file) : 0,
                plan.total(Tier::disk));
      EXPECT_EQ(plan.total(Tier::disk) > 0, shares.disk > 0);
    }
    std::filesystem::remove(file);
  }
}

// ---------------------------------------------------------------------------------------- faults

TEST(WeightStream, EveryReadCanFailAndNothingHangs) {
  for (const Shares& shares : {Shares{30, 40, 30}, Shares{0, 0, 100}, Shares{50, 50, 0}}) {
    bool whole = false;
    for (std::int64_t k = 0; !whole; ++k) {
      ASSERT_LT(k, 200);
      Setting setting(small_layers(3), shares, 2, k % 2 == 0);
      setting.disk.fail_request(k);
      Checker checker(100);
      try {
        const auto stream = setting.start();
        for (std::int32_t i = 0; i < 9; ++i) setting.step(*stream, i % 3, checker);
        whole = true;
      } catch (const IoError& failure) {
        EXPECT_STREQ(failure.what(), "injected failure");
        EXPECT_TRUE(setting.disk.failed());
      }
      setting.finish_compute();
      EXPECT_EQ(checker.wrong_bytes(), 0);
    }
  }
}

TEST(WeightStream, AFailureStaysAndNamesTheFile) {
  Setting setting(small_layers(2), {0, 0, 100}, 2);
  const auto stream = setting.start();
  Checker checker(100);
  setting.step(*stream, 0, checker);
  setting.finish_compute();
  const std::int32_t key = setting.layers[1].tensors[4].info.key;
  std::filesystem::resize_file(setting.source.file_of(key), 10);
  std::string sentence;
  for (std::int32_t i = 1; sentence.empty(); ++i) {
    ASSERT_LT(i, 20);
    try {
      setting.step(*stream, i % 2, checker);
    } catch (const IoError& failure) {
      sentence = failure.what();
      EXPECT_THROW(stream->acquire(i % 2, 0), IoError);
    }
  }
  EXPECT_THAT(sentence, HasSubstr(setting.source.file_of(key).string() + " at offset 0"));
}

TEST(WeightStream, DestroyedAtAnyMomentItEnds) {
  for (const Shares& shares : kPlacements) {
    for (const std::int32_t slots : {1, 2, 3}) {
      for (std::int32_t steps = 0; steps < 8; ++steps) {
        Setting setting(small_layers(3), shares, slots);
        Checker checker(100);
        {
          const auto stream = setting.start();
          for (std::int32_t i = 0; i < steps; ++i) setting.step(*stream, i % 3, checker);
          // The last lease is never given back.
          checker.put(setting.backend(), stream->acquire(steps % 3, 0),
                      setting.layers[static_cast<std::size_t>(steps % 3)]);
        }
        EXPECT_EQ(checker.wrong_bytes(), 0);
      }
    }
  }
}

TEST(WeightStream, AnArenaSmallerThanThePlanIsRefused) {
  Setting setting(small_layers(2), {30, 40, 30}, 2);
  setting.device = Arena(setting.backend().allocate_device(4096), "device");
  EXPECT_THROW(setting.start(), CapacityError);
}

}  // namespace
}  // namespace sluice::offload
