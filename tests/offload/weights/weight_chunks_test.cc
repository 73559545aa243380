#include "offload/weights/weight_chunks.h"

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <string>

namespace sluice::offload {
namespace {

// Tensors at places that the test says. Nothing is ever read.
class PlacedSource : public WeightSource {
 public:
  WeightInfo find(const WeightSpec& spec) override {
    names_.push_back(spec.name);
    return {DType::f16, spec.rows, spec.columns, static_cast<std::int32_t>(names_.size() - 1)};
  }
  void read(const WeightInfo&, std::uint64_t, std::size_t, void*, IoGroup&) override {}
  WeightExtent extent(const WeightInfo& tensor, std::uint64_t offset, std::size_t) override {
    const auto found = places.find(names_.at(static_cast<std::size_t>(tensor.key)));
    if (found == places.end()) return {};
    // Never used but to be told from null.
    return {reinterpret_cast<DiskEngine*>(8), found->second.first, found->second.second + offset};
  }
  void keep_on_disk(const WeightInfo&, std::uint64_t, std::size_t) override {}

  std::map<std::string, std::pair<FileId, std::uint64_t>> places;

 private:
  std::vector<std::string> names_;
};

GroupPlacement layer_of(PlacedSource& source, const std::vector<WeightSpec>& tensors,
                        const Shares& shares = {0, 0, 100}) {
  return place_weights({{"layer", tensors}}, shares, source).front();
}

TEST(WeightChunks, NeighboursAreOneRead) {
  PlacedSource source;
  // As in a file: bias and weight of one, bias and weight of the next, from an odd place on.
  source.places = {{"b1", {3, 1001}}, {"w1", {3, 1201}}, {"b2", {3, 21201}}, {"w2", {3, 21401}}};
  const GroupPlacement layer =
      layer_of(source, {{"w1", 100, 100}, {"b1", 1, 100}, {"w2", 100, 100}, {"b2", 1, 100}});
  const auto chunks = weight_chunks(layer, source, 1 << 20);
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(chunks[0].from.file, 3);
  EXPECT_EQ(chunks[0].from.offset, 1001U);
  EXPECT_EQ(chunks[0].bytes, 40400U);
  EXPECT_EQ(chunks[0].copies.size(), 4U);
}

TEST(WeightChunks, GapsAndFilesDivideReads) {
  PlacedSource source;
  source.places = {{"a", {0, 0}}, {"b", {0, 20000 + 2 * kDiskBlock}}, {"c", {1, 20000}}};
  const GroupPlacement layer =
      layer_of(source, {{"a", 100, 100}, {"b", 100, 100}, {"c", 100, 100}, {"d", 100, 100}});
  const auto chunks = weight_chunks(layer, source, 1 << 20);
  ASSERT_EQ(chunks.size(), 4U);
  // The one that no file has in one piece is read by its source.
  EXPECT_EQ(chunks[0].from.disk, nullptr);
  EXPECT_EQ(chunks[0].tensor.key, 3);
  EXPECT_EQ(chunks[0].bytes, 20000U);
}

// For any places and shares: every disk byte is copied once from where the read puts it, and no
// read leaves its buffer.
TEST(WeightChunks, EveryByteComesOnceToItsPlace) {
  std::mt19937 random(5);
  for (int round = 0; round < 100; ++round) {
    PlacedSource source;
    std::vector<WeightSpec> specs;
    std::uint64_t end = random() % 9000;
    const int count = 1 + static_cast<int>(random() % 6);
    for (int t = 0; t < count; ++t) {
      const std::int64_t rows = 1 + random() % 60;
      const std::int64_t columns = 1 + random() % 300;
      specs.push_back({std::to_string(t), rows, columns});
      if (random() % 8 == 0) continue;
      if (random() % 3 == 0) end += random() % 20000;
      source.places[specs.back().name] = {static_cast<FileId>(random() % 5 == 0), end};
      end += static_cast<std::uint64_t>(rows * columns) * 2;
    }
    const GroupPlacement layer =
        layer_of(source, specs, round % 2 == 0 ? Shares{0, 0, 100} : Shares{20, 30, 50});
    const std::size_t chunk_bytes = kDiskBlock * (1 + random() % 5);
    const std::vector<std::size_t> offsets = slot_offsets(layer);
    ASSERT_EQ(offsets.back(), layer.slot_bytes());

    // By byte of the slot: the tensor's file and the place in it.
    std::map<std::size_t, std::pair<FileId, std::uint64_t>> got;
    for (const WeightChunk& chunk : weight_chunks(layer, source, chunk_bytes)) {
      const bool placed = chunk.from.disk != nullptr;
      const std::uint64_t skip = placed ? chunk.from.offset % kDiskBlock : 0;
      ASSERT_LE(skip + chunk.bytes, chunk_bytes);
      for (const WeightChunk::Copy& copy : chunk.copies) {
        ASSERT_GE(copy.source, skip);
        ASSERT_LE(copy.source + copy.bytes, skip + chunk.bytes);
        for (std::size_t i = 0; i < copy.bytes; ++i) {
          const std::uint64_t at = chunk.from.offset - skip + copy.source + i;
          const FileId file = placed ? chunk.from.file : -1 - chunk.tensor.key;
          ASSERT_TRUE(got.emplace(copy.target + i, std::pair(file, at)).second);
        }
      }
    }
    std::size_t expected = 0;
    for (std::size_t t = 0; t < layer.tensors.size(); ++t) {
      const TensorPlacement& tensor = layer.tensors[t];
      const std::uint64_t before = tensor.bytes(Tier::device) + tensor.bytes(Tier::host);
      const WeightExtent extent = source.extent(tensor.info, before, tensor.bytes(Tier::disk));
      for (std::uint64_t i = 0; i < tensor.bytes(Tier::disk); ++i, ++expected) {
        const auto found = got.find(offsets[t] + tensor.bytes(Tier::host) + i);
        ASSERT_NE(found, got.end());
        const auto place = extent.disk != nullptr
                               ? std::pair(extent.file, extent.offset + i)
                               : std::pair(static_cast<FileId>(-1 - tensor.info.key), before + i);
        ASSERT_EQ(found->second, place);
      }
    }
    ASSERT_EQ(got.size(), expected);
  }
}

}  // namespace
}  // namespace sluice::offload
