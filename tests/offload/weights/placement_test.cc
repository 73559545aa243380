#include "offload/weights/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kernels/device/error.h"

namespace sluice::offload {
namespace {

// Shapes only: placement reads nothing.
class Shapes : public WeightSource {
 public:
  explicit Shapes(DType dtype = DType::f16) : dtype_(dtype) {}
  WeightInfo find(const WeightSpec& spec) override {
    EXPECT_FALSE(spec.name.empty()) << "an absent tensor was asked for";
    return {dtype_, spec.rows, spec.columns, next_key_++};
  }
  void read(const WeightInfo&, std::uint64_t, std::size_t, void*, IoGroup&) override {
    ADD_FAILURE() << "placement reads nothing";
  }
  void keep_on_disk(const WeightInfo&, std::uint64_t, std::size_t) override {}

 private:
  DType dtype_;
  std::int32_t next_key_ = 0;
};

std::vector<GroupSpec> decoder_layers(int count, std::int64_t hidden) {
  std::vector<GroupSpec> layers;
  for (int i = 0; i < count; ++i) {
    GroupSpec layer{"layer " + std::to_string(i), {}};
    for (int b = 0; b < 9; ++b) layer.tensors.push_back({"bias", 1, hidden});
    layer.tensors.push_back({"fc1.bias", 1, 4 * hidden});
    for (int m = 0; m < 4; ++m) layer.tensors.push_back({"square", hidden, hidden});
    layer.tensors.push_back({"fc1", 4 * hidden, hidden});
    layer.tensors.push_back({"fc2", hidden, 4 * hidden});
    layers.push_back(layer);
  }
  return layers;
}

PerTier<std::uint64_t> totals(const std::vector<GroupPlacement>& layers) {
  PerTier<std::uint64_t> sums = {};
  for (const GroupPlacement& layer : layers) {
    for (std::size_t t = 0; t < sums.size(); ++t) sums[t] += layer.bytes(static_cast<Tier>(t));
  }
  return sums;
}

// The laws of a placement, whatever shapes and shares.
void expect_lawful(const std::vector<GroupPlacement>& layers, const Shares& shares) {
  std::uint64_t total = 0;
  std::size_t largest_row = 0;
  for (const GroupPlacement& layer : layers) {
    EXPECT_EQ(layer.bytes(Tier::device) + layer.bytes(Tier::host) + layer.bytes(Tier::disk),
              layer.total_bytes());
    total += layer.total_bytes();
    for (const TensorPlacement& tensor : layer.tensors) {
      EXPECT_EQ(tensor.rows[0] + tensor.rows[1] + tensor.rows[2], tensor.info.rows);
      for (const std::int64_t rows : tensor.rows) EXPECT_GE(rows, 0);
      largest_row = std::max(largest_row, tensor.row_bytes());
    }
  }
  const PerTier<std::uint64_t> sums = totals(layers);
  for (std::size_t t = 0; t < sums.size(); ++t) {
    const double share = shares.of(static_cast<Tier>(t));
    const double asked = share / 100.0 * static_cast<double>(total);
    EXPECT_LE(std::abs(static_cast<double>(sums[t]) - asked),
              static_cast<double>(largest_row) + 1e-6 * static_cast<double>(total))
        << name_of(static_cast<Tier>(t)) << " of " << total << " at " << share;
    if (share == 0.0) {
      EXPECT_EQ(sums[t], 0U) << name_of(static_cast<Tier>(t));
    }
  }
}

TEST(Placement, AllOfOneTier) {
  for (int t = 0; t < kTierCount; ++t) {
    Shares shares{0, 0, 0};
    (t == 0 ? shares.device : t == 1 ? shares.host : shares.disk) = 100;
    Shapes source;
    const auto layers = place_weights(decoder_layers(3, 48), shares, source);
    for (const GroupPlacement& layer : layers) {
      EXPECT_EQ(layer.bytes(static_cast<Tier>(t)), layer.total_bytes());
    }
    EXPECT_EQ(layers[0].slot_bytes() == 0, t == 0);
    expect_lawful(layers, shares);
  }
}

TEST(Placement, ByteSumsOfAKnownModel) {
  // One layer: 13 x 64 elements of vectors and 12 x 64 x 64 of matrices, f16.
  Shapes source;
  const auto layers = place_weights(decoder_layers(2, 64), {30, 40, 30}, source);
  const std::uint64_t layer_bytes = (13 * 64 + 12 * 64 * 64) * 2;
  EXPECT_EQ(layers[0].total_bytes(), layer_bytes);
  const PerTier<std::uint64_t> sums = totals(layers);
  EXPECT_EQ(sums[0], 60032U);  // asked: 59980.8
  EXPECT_EQ(sums[1], 80000U);  // asked: 79974.4
  EXPECT_EQ(sums[2], 59904U);  // asked: 59980.8
  EXPECT_EQ(sums[0] + sums[1] + sums[2], 2 * layer_bytes);
}

TEST(Placement, TiersLieInOrderAndVectorsAreWhole) {
  Shapes source;
  for (const GroupPlacement& layer : place_weights(decoder_layers(4, 32), {25, 50, 25}, source)) {
    int tier = 0;  // along a layer's tensors and rows the tier never goes back
    for (const TensorPlacement& tensor : layer.tensors) {
      for (int t = 0; t < kTierCount; ++t) {
        if (tensor.rows[static_cast<std::size_t>(t)] == 0) continue;
        EXPECT_GE(t, tier);
        tier = t;
      }
    }
    // The vectors come first, so they stay with the device.
    EXPECT_EQ(layer.tensors[0].rows[0], 1);
  }
}

TEST(Placement, EveryLayerHasItsShare) {
  Shapes source;
  for (const GroupPlacement& layer : place_weights(decoder_layers(12, 64), {20, 30, 50}, source)) {
    const double bytes = static_cast<double>(layer.total_bytes());
    EXPECT_NEAR(static_cast<double>(layer.bytes(Tier::device)) / bytes, 0.2, 0.02);
    EXPECT_NEAR(static_cast<double>(layer.bytes(Tier::disk)) / bytes, 0.5, 0.02);
  }
}

TEST(Placement, RandomShapesAndShares) {
  std::mt19937 random(20240601);
  const auto below = [&random](std::int64_t n) {
    return std::uniform_int_distribution<std::int64_t>(0, n - 1)(random);
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<GroupSpec> specs;
    for (std::int64_t l = below(12); l >= 0; --l) {
      GroupSpec layer{"layer", {}};
      for (std::int64_t t = below(8); t >= 0; --t) {
        if (below(6) == 0) {
          layer.tensors.push_back({"", 0, 0});
        } else {
          layer.tensors.push_back({"tensor", below(3) == 0 ? 1 : 1 + below(40), 1 + below(64)});
        }
      }
      specs.push_back(layer);
    }
    Shares shares;
    shares.device = below(4) == 0 ? 0.0 : static_cast<double>(below(1000)) / 10.0;
    shares.host =
        below(4) == 0 ? 0.0 : static_cast<double>(below(1000)) / 1000.0 * (100.0 - shares.device);
    if (below(4) == 0) shares.host = 100.0 - shares.device;
    shares.disk = 100.0 - shares.device - shares.host;
    Shapes source(below(2) == 0 ? DType::f16 : DType::f32);
    expect_lawful(place_weights(specs, shares, source), shares);
    if (HasFailure()) FAIL() << "round " << round;
  }
}

// Groups of a layer are cut where the layer would be.
TEST(Placement, ALayerInTwoGroupsIsCutAsAWhole) {
  for (const Shares& shares : {Shares{50, 0, 50}, Shares{30, 40, 30}, Shares{0, 100, 0}}) {
    std::vector<GroupSpec> whole = decoder_layers(5, 48);
    std::vector<GroupSpec> apart;
    for (const GroupSpec& layer : whole) {
      const auto number = static_cast<std::int32_t>(apart.size() / 2);
      const auto half = layer.tensors.begin() + 14;
      apart.push_back({layer.name + " attention", {layer.tensors.begin(), half}, number});
      apart.push_back({layer.name + " mlp", {half, layer.tensors.end()}, number});
    }
    Shapes source;
    const auto expected = place_weights(whole, shares, source);
    const auto placed = place_weights(apart, shares, source);
    ASSERT_EQ(placed.size(), 2 * expected.size());
    for (std::size_t layer = 0; layer < expected.size(); ++layer) {
      const std::vector<TensorPlacement>& tensors = expected[layer].tensors;
      for (std::size_t t = 0; t < tensors.size(); ++t) {
        const GroupPlacement& group = placed[2 * layer + (t < 14 ? 0 : 1)];
        EXPECT_EQ(group.tensors[t < 14 ? t : t - 14].rows, tensors[t].rows);
      }
      EXPECT_EQ(placed[2 * layer].name, expected[layer].name + " attention");
      EXPECT_EQ(placed[2 * layer + 1].layer, static_cast<std::int32_t>(layer));
    }
  }
}

TEST(Placement, AbsentTensorsAreEmptyAndSkipped) {
  Shapes source;
  const auto layers = place_weights({{"head", {{"", 0, 0}, {"w", 3, 2}}}}, {}, source);
  EXPECT_EQ(layers[0].tensors[0].info.rows, 0);
  EXPECT_EQ(layers[0].tensors[0].info.key, -1);
  EXPECT_EQ(layers[0].total_bytes(), 12U);
}

TEST(Placement, SlotsArePaddedPerTensor) {
  Shapes source(DType::f32);
  const auto layers =
      place_weights({{"layer", {{"a", 3, 5}, {"b", 1, 1}, {"c", 0, 7}}}}, {0, 0, 100}, source);
  EXPECT_EQ(layers[0].slot_bytes(), 64U + 64U);
}

TEST(Placement, ShapesThatCannotBeAreRefused) {
  struct Hostile : Shapes {
    WeightInfo find(const WeightSpec&) override {
      return {DType::f32, std::int64_t{1} << 40, std::int64_t{1} << 40, 0};
    }
  } source;
  EXPECT_THROW(place_weights({{"layer", {{"a", 1, 1}}}}, {}, source), InputError);
}

}  // namespace
}  // namespace sluice::offload
