// Leases by name: attention and MLP of a layer apart, several at a time, in orders that repeat.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device/error.h"
#include "tests/offload/weights/stream_setting.h"
#include "tests/support/shuffled_engine.h"

namespace sluice::offload {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// An embedding, layers of an attention and an MLP of other size, and a head.
std::vector<GroupSpec> groups_apart(int layers) {
  std::vector<GroupSpec> groups = {{"embedding", {{"table", 90, 37}}}};
  for (std::int32_t i = 0; i < layers; ++i) {
    const std::string name = "layers." + std::to_string(i) + ".";
    groups.push_back({"layer " + std::to_string(i) + " attention",
                      {{name + "norm", 1, 37}, {name + "query", 37, 37}, {name + "out", 37, 37}},
                      i});
    groups.push_back({"layer " + std::to_string(i) + " mlp",
                      {{name + "fc1", 111, 37}, {"", 0, 0}, {name + "fc2", 37, 111 + i}},
                      i});
  }
  groups.push_back({"head", {{"norm", 1, 37}, {"head", 120, 37}}});
  return groups;
}

/// ShuffledBackend for a stream, whose threads put work on the lanes too.
class LockedBackend : public Backend {
 public:
  explicit LockedBackend(unsigned seed) : lanes_(seed) {}
  const BackendInfo& info() const override { return lanes_.info(); }
  Memory allocate_device(std::size_t bytes) override { return lanes_.allocate_device(bytes); }
  Memory allocate_host(std::size_t bytes, bool pinned) override {
    return lanes_.allocate_host(bytes, pinned);
  }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    lanes_.copy(lane, target, source, bytes);
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    const std::lock_guard lock(mutex_);
    lanes_.call(lane, function, argument);
  }
  Event record(Lane lane) override {
    const std::lock_guard lock(mutex_);
    return lanes_.record(lane);
  }
  void wait(Lane lane, Event event) override {
    const std::lock_guard lock(mutex_);
    lanes_.wait(lane, event);
  }
  bool done(Event event) override {
    const std::lock_guard lock(mutex_);
    return lanes_.done(event);
  }
  void synchronize(Event event) override {
    const std::lock_guard lock(mutex_);
    lanes_.synchronize(event);
  }

 private:
  std::mutex mutex_;
  support::ShuffledBackend lanes_;
};

// Leases taken in the order, up to `held` at a time, some of them released before older ones.
void run_leases(Setting& setting, const std::vector<std::int32_t>& order, std::size_t held,
                std::mt19937& random) {
  const auto stream = setting.start();
  const std::size_t count = 6 * order.size();
  Checker checker(count);
  std::vector<std::optional<WeightStream::Lease>> leases(count);
  const auto release = [&](std::size_t i) {
    if (leases[i]) stream->release(*leases[i]);
    leases[i].reset();
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (i >= held) release(i - held);
    const std::int32_t group = order[i % order.size()];
    leases[i] = stream->acquire(group, 0);
    checker.put(setting.backend(), *leases[i], setting.layers[static_cast<std::size_t>(group)]);
    if (random() % 3 == 0) release(i);
  }
  for (std::size_t i = 0; i < count; ++i) release(i);
  setting.finish_compute();
  EXPECT_EQ(checker.wrong_bytes(), 0);
}

TEST(WeightLease, AttentionAndMlpApartInAnyOrderOfTheLanes) {
  std::mt19937 random(3);
  const std::vector<GroupSpec> specs = groups_apart(3);
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::vector<std::int32_t> order;
    for (std::size_t g = 0; g < specs.size(); ++g) {
      order.push_back(static_cast<std::int32_t>(g));
      // Now and then a group comes a second time.
      if (seed % 2 == 1 && random() % 3 == 0) {
        order.push_back(static_cast<std::int32_t>(random() % (g + 1)));
      }
    }
    const Shares& shares = kPlacements[seed % std::size(kPlacements)];
    const std::int32_t slots = 1 + static_cast<std::int32_t>(seed % 3);
    Setting setting(specs, shares, slots, seed % 4 != 0, order,
                    std::make_unique<LockedBackend>(seed));
    EXPECT_EQ(setting.device.capacity(), setting.plan.total(Tier::device));
    run_leases(setting, order, 1 + random() % static_cast<unsigned>(slots), random);
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST(WeightLease, BothGroupsOfALayerAreHeldInOneSlot) {
  std::mt19937 random(4);
  const std::vector<std::int32_t> order = {0, 1, 2, 3, 4, 5, 6, 7};
  for (const Shares& shares : kPlacements) {
    for (const bool overlap : {true, false}) {
      Setting setting(groups_apart(3), shares, 2, true, order);
      setting.options.overlap = overlap;
      run_leases(setting, order, 2, random);
    }
  }
}

TEST(WeightLease, TakesExactlyWhatWasPlannedAndNoMoreThanWholeLayers) {
  const std::vector<GroupSpec> apart = groups_apart(4);
  std::vector<GroupSpec> whole = {apart.front()};
  for (std::size_t g = 1; g + 1 < apart.size(); g += 2) {
    GroupSpec layer = apart[g];
    layer.tensors.insert(layer.tensors.end(), apart[g + 1].tensors.begin(),
                         apart[g + 1].tensors.end());
    whole.push_back(layer);
  }
  whole.push_back(apart.back());
  for (const Shares& shares : kPlacements) {
    for (const std::int32_t slots : {2, 3}) {
      Setting setting(apart, shares, slots);
      const auto stream = setting.start();
      EXPECT_EQ(setting.device.used(), setting.plan.total(Tier::device));
      EXPECT_EQ(setting.host.used(), setting.plan.total(Tier::host));
      const Setting same(whole, shares, slots);
      EXPECT_EQ(setting.plan.total(Tier::device), same.plan.total(Tier::device));
      EXPECT_EQ(setting.plan.total(Tier::host), same.plan.total(Tier::host));
    }
  }
}

template <typename Call>
std::string sentence_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(WeightLease, OutOfOrderIsRefusedByBothNamesWhereverTheBytesLie) {
  for (const Shares& shares : kPlacements) {
    Setting setting(groups_apart(2), shares, 2);
    const auto stream = setting.start();
    stream->release(stream->acquire(0, 0));
    EXPECT_THAT(sentence_of([&] { stream->acquire(2, 0); }),
                AllOf(HasSubstr("'layer 0 mlp'"), HasSubstr("'layer 0 attention' is next")));
    EXPECT_THAT(sentence_of([&] { stream->acquire(17, 0); }), HasSubstr("group 17"));
    stream->release(stream->acquire(1, 0));  // what was refused changed nothing
  }
}

TEST(WeightLease, APlaceThatALeaseHoldsIsRefusedByBothNames) {
  for (const bool overlap : {true, false}) {
    Setting setting(groups_apart(4), {0, 100, 0}, 2);
    setting.options.overlap = overlap;
    const auto stream = setting.start();
    std::vector<WeightStream::Lease> held;
    for (std::int32_t group = 0; group < 3; ++group) held.push_back(stream->acquire(group, 0));
    // The embedding's slot is that of layer 1.
    EXPECT_THAT(sentence_of([&] { held.push_back(stream->acquire(3, 0)); }),
                AllOf(HasSubstr("'layer 1 attention'"), HasSubstr("lease of 'embedding'")));
    stream->release(held[0]);
    held.push_back(stream->acquire(3, 0));
    held.push_back(stream->acquire(4, 0));
    EXPECT_THAT(sentence_of([&] { stream->acquire(5, 0); }),
                AllOf(HasSubstr("'layer 2 attention'"), HasSubstr("lease of 'layer 0 attention'")));
    // The MLP of layer 0 is not in its way.
    stream->release(held[1]);
    held.push_back(stream->acquire(5, 0));
  }
}

TEST(WeightLease, AnOrderThatLeavesOutAStreamedGroupIsRefused) {
  MemoryPlan plan;
  Setting setting(groups_apart(2), {0, 100, 0}, 2);
  EXPECT_THAT(sentence_of([&] {
                WeightStream::plan(setting.layers, {2, nullptr, true, {0, 1, 2, 3, 4}}, plan);
              }),
              HasSubstr("leaves out 'head'"));
}

/// Counts what may stand in front of a copy that somebody else puts on the link: bytes that are on
/// the lane, and of which nobody has waited to hear that they have arrived.
class CountedLink : public Backend {
 public:
  explicit CountedLink(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
  const BackendInfo& info() const override { return backend_->info(); }
  Memory allocate_device(std::size_t bytes) override { return backend_->allocate_device(bytes); }
  Memory allocate_host(std::size_t bytes, bool pinned) override {
    return backend_->allocate_host(bytes, pinned);
  }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    if (lane == Lane::host_to_device) {
      const std::lock_guard lock(mutex_);
      put_ += bytes;
      most_ahead_ = std::max(most_ahead_, put_ - arrived_);
    }
    backend_->copy(lane, target, source, bytes);
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    backend_->call(lane, function, argument);
  }
  Event record(Lane lane) override {
    const Event event = backend_->record(lane);
    const std::lock_guard lock(mutex_);
    if (lane == Lane::host_to_device) put_before_[event.ticket] = put_;
    return event;
  }
  void wait(Lane lane, Event event) override { backend_->wait(lane, event); }
  bool done(Event event) override { return backend_->done(event); }
  void synchronize(Event event) override {
    backend_->synchronize(event);
    const std::lock_guard lock(mutex_);
    if (event.lane == Lane::host_to_device && event.ticket != 0) {
      arrived_ = std::max(arrived_, put_before_.at(event.ticket));
    }
  }
  std::size_t most_ahead() const { return most_ahead_; }

 private:
  std::mutex mutex_;
  std::unique_ptr<Backend> backend_;
  std::map<std::uint64_t, std::size_t> put_before_;  // by ticket of an event
  std::size_t put_ = 0;
  std::size_t arrived_ = 0;
  std::size_t most_ahead_ = 0;
};

// Pages of the cache are small beside a layer: none of them waits for more than two pieces of it.
TEST(WeightLease, WeightsThatShareTheLinkLeaveRoomOnIt) {
  constexpr std::int64_t kRows = 1280;
  const std::vector<GroupSpec> specs = {
      {"layer 0", {{"layers.0.norm", 1, 37}, {"layers.0.fc1", kRows, 4096}}, 0},
      {"layer 1", {{"layers.1.norm", 1, 37}, {"layers.1.fc1", kRows, 4096}}, 1},
      {"layer 2", {{"layers.2.norm", 1, 37}, {"layers.2.fc1", kRows, 4096}}, 2}};
  for (const Shares& shares : {Shares{0, 100, 0}, Shares{0, 30, 70}}) {
    for (const bool shares_link : {true, false}) {
      kernels::Engine engine = kernels::make_cpu_engine({.device = "cpu", .threads = 1});
      Setting setting(specs, shares, 1, false, {},
                      std::make_unique<CountedLink>(std::move(engine.backend)));
      setting.options.shares_link = shares_link;
      const auto stream = setting.start();
      Checker checker(4);
      for (int i = 0; i < 4; ++i) setting.step(*stream, i % 3, checker);
      setting.finish_compute();
      EXPECT_EQ(checker.wrong_bytes(), 0);
      const auto& link = static_cast<const CountedLink&>(setting.backend());
      if (shares_link) {
        EXPECT_LE(link.most_ahead(), 2 * kWeightPieceBytes);
      } else {
        EXPECT_GT(link.most_ahead(), 2 * kWeightPieceBytes) << "a layer is larger";
      }
    }
  }
}

}  // namespace
}  // namespace sluice::offload
