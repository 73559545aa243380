#include "offload/weights/stored_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "offload/weights/weight_source.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using support::refusal;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t kColumns = 5;

/// A checkpoint with a matrix "fused" [12, 5], a vector "fused_bias" [12], a copy of the matrix and
/// a matrix that differs from it in its last element only; f32, and element i of the first is i.
class StoredWeightsTest : public testing::Test {
 protected:
  StoredWeightsTest() {
    std::vector<float> values(12 * kColumns);
    std::iota(values.begin(), values.end(), 0.0F);
    std::string data;
    const auto append = [&](const std::vector<float>& numbers) {
      data.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float));
    };
    append(values);
    append(std::vector<float>(values.begin(), values.begin() + 12));
    append(values);
    values.back() += 1;
    append(values);
    const std::string header =
        R"({"fused":{"dtype":"F32","shape":[12,5],"data_offsets":[0,240]},)"
        R"("fused_bias":{"dtype":"F32","shape":[12],"data_offsets":[240,288]},)"
        R"("copy":{"dtype":"F32","shape":[12,5],"data_offsets":[288,528]},)"
        R"("other":{"dtype":"F32","shape":[12,5],"data_offsets":[528,768]}})";
    support::write_file(folder_.path() / "model.safetensors",
                        support::little(header.size(), 8) + header + data);
  }

  /// The first element of each row that `spec` has.
  std::vector<float> rows_of(const StoredNames& names, const WeightSpec& spec) {
    const auto source = make_checkpoint_source(checkpoint(), names, *disk_);
    const WeightInfo info = source->find(spec);
    std::vector<float> values(static_cast<std::size_t>(spec.rows * spec.columns));
    // In odd pieces, so that reads begin and end within a piece of rows, and go across several.
    const std::size_t bytes = values.size() * sizeof(float);
    auto* const target = reinterpret_cast<std::byte*>(values.data());
    for (std::size_t at = 0; at < bytes; at += 28) {
      IoGroup group;
      source->read(info, at, std::min<std::size_t>(28, bytes - at), target + at, group);
      group.wait();
    }
    std::vector<float> first;
    for (std::size_t i = 0; i < values.size(); i += spec.rows == 1 ? 1 : kColumns) {
      first.push_back(values[i]);
    }
    return first;
  }
  const Checkpoint& checkpoint() {
    if (!checkpoint_) checkpoint_ = Checkpoint::open(folder_.path());
    return *checkpoint_;
  }

  support::ScratchFolder folder_;
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({});
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(StoredWeightsTest, RowsOfAFusedTensorAreReadWhereTheyLie) {
  // Two groups of three query rows, a key row, a value row and a row of nobody's.
  const StoredNames names = {{"query", {"fused", {0, 3, 6}}},
                             {"key", {"fused", {3, 1, 6}}},
                             {"value", {"fused", {4, 1, 6}}},
                             {"bias", {"fused_bias", {4, 1, 6}}},
                             {"tail", {"fused", {8, 4, 0}}}};
  EXPECT_EQ(rows_of(names, {"query", 6, kColumns}), (std::vector<float>{0, 5, 10, 30, 35, 40}));
  EXPECT_EQ(rows_of(names, {"key", 2, kColumns}), (std::vector<float>{15, 45}));
  EXPECT_EQ(rows_of(names, {"value", 2, kColumns}), (std::vector<float>{20, 50}));
  EXPECT_EQ(rows_of(names, {"bias", 1, 2}), (std::vector<float>{4, 10}));
  EXPECT_EQ(rows_of(names, {"tail", 4, kColumns}), (std::vector<float>{40, 45, 50, 55}));
  EXPECT_EQ(rows_of(names, {"fused", 12, kColumns}).size(), 12U);  // under its own name
}

TEST_F(StoredWeightsTest, TheSameRowsAreOneWeightAndOthersAreNot) {
  const StoredNames names = {
      {"a", {"fused", {0, 6, 0}}}, {"b", {"fused", {0, 6, 0}}}, {"c", {"fused", {6, 6, 0}}}};
  const auto source = make_checkpoint_source(checkpoint(), names, *disk_);
  const std::int32_t key = source->find({"a", 6, kColumns}).key;
  EXPECT_EQ(source->find({"b", 6, kColumns}).key, key);
  EXPECT_NE(source->find({"c", 6, kColumns}).key, key);
}

TEST_F(StoredWeightsTest, OnePieceIsAnExtentAndSeveralAreNone) {
  const StoredNames names = {{"query", {"fused", {0, 3, 6}}}, {"tail", {"fused", {8, 4, 0}}}};
  const auto source = make_checkpoint_source(checkpoint(), names, *disk_);
  const WeightInfo tail = source->find({"tail", 4, kColumns});
  const WeightInfo query = source->find({"query", 6, kColumns});
  const WeightExtent whole = source->extent(tail, 0, 80);
  EXPECT_EQ(whole.disk, disk_.get());
  EXPECT_EQ(whole.offset, checkpoint().find("fused")->offset + 8 * 20);
  EXPECT_EQ(source->extent(query, 0, 120).disk, nullptr);
  EXPECT_EQ(source->extent(query, 70, 20).offset, checkpoint().find("fused")->offset + 130);
}

TEST_F(StoredWeightsTest, AMatrixStoredByColumnsIsGatheredIntoRows) {
  // Our rows are columns 1 and 2, then 3 and 4, of what is stored.
  const StoredNames names = {{"w", {"fused", {1, 2, 2}, true}}, {"all", {"fused", {}, true}}};
  const auto source = make_checkpoint_source(checkpoint(), names, *disk_);
  const WeightInfo info = source->find({"w", 4, 12});
  EXPECT_TRUE(info.relaid);
  EXPECT_EQ(source->extent(info, 0, 48).disk, nullptr);
  std::vector<float> values(3 * 12);
  IoGroup group;
  source->read(info, 48, 3 * 48, values.data(), group);  // its rows 1 to 3
  group.wait();
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 12; ++column) {
      EXPECT_EQ(values[row * 12 + column], static_cast<float>(column * 5 + 2 + row));
    }
  }
  EXPECT_EQ(source->find({"all", 5, 12}).rows, 5);
  EXPECT_THAT(refusal([&] {
                source->find({"all", 12, 5});
              }),
              HasSubstr("config.json asks for [12, 5], stored by columns"));
}

TEST_F(StoredWeightsTest, AMatrixOfAFewStoredRowsIsGatheredAndIsAWeightOfItsOwn) {
  // Three matrices of 4 inputs, one under another.
  const auto name = [](std::int64_t first) {
    return StoredName{"fused", {0, 0, 0, first}, true, 4};
  };
  const StoredNames names = {{"a", name(0)}, {"b", name(4)}, {"c", name(8)}, {"d", name(9)}};
  const auto source = make_checkpoint_source(checkpoint(), names, *disk_);
  const WeightInfo a = source->find({"a", kColumns, 4});
  const WeightInfo b = source->find({"b", kColumns, 4});
  EXPECT_NE(a.key, b.key);
  std::vector<float> values(static_cast<std::size_t>(kColumns * 4));
  IoGroup group;
  source->read(b, 0, values.size() * sizeof(float), values.data(), group);
  group.wait();
  for (std::size_t row = 0; row < kColumns; ++row) {
    for (std::size_t input = 0; input < 4; ++input) {
      EXPECT_EQ(values[row * 4 + input], static_cast<float>((4 + input) * 5 + row));
    }
  }
  EXPECT_THAT(refusal([&] {
                source->find({"d", kColumns, 4});
              }),
              HasSubstr("not of the same model"));
}

TEST_F(StoredWeightsTest, MatricesStoredTogetherAreRowsOfOne) {
  const std::string header = R"({"all":{"dtype":"F32","shape":[3,4,5],"data_offsets":[0,240]}})";
  std::string data(240, '\0');
  support::write_file(folder_.path() / "model.safetensors",
                      support::little(header.size(), 8) + header + data);
  const StoredNames names = {{"w", {"all", {4, 4, 0}}}, {"x", {"all", {9, 4, 0}}}};
  const StoredWeight weight = find_weight(checkpoint(), names, {"w", 4, kColumns});
  EXPECT_EQ(weight.position(0), checkpoint().find("all")->offset + 4 * 20);
  EXPECT_FALSE(weight.relaid());
  EXPECT_THAT(refusal([&] {
                find_weight(checkpoint(), names, {"x", 4, kColumns});
              }),
              HasSubstr("[3, 4, 5]"));
  EXPECT_THAT(refusal([&] {  // under its own name it is no matrix
                find_weight(checkpoint(), names, {"all", 12, kColumns});
              }),
              HasSubstr("[3, 4, 5]"));
}

TEST_F(StoredWeightsTest, RowsThatAreNotThereAreRefused) {
  const auto refused = [&](const RowRange& rows, std::int64_t wanted, std::int64_t columns) {
    const StoredNames names = {{"w", {"fused", rows}}};
    return refusal([&] { find_weight(checkpoint(), names, {"w", wanted, columns}); });
  };
  EXPECT_THAT(refused({8, 4, 0}, 4, 6), AllOf(HasSubstr("\"fused\" has the shape [12, 5]"),
                                              HasSubstr("[4, 6] in pieces from 8 on")));
  EXPECT_THAT(refused({9, 4, 0}, 4, 5), HasSubstr("not of the same model"));
  EXPECT_THAT(refused({0, 3, 6}, 9, 5), HasSubstr("not of the same model"));
  EXPECT_THAT(refused({0, 3, 6}, 4, 5), HasSubstr("not of the same model"));
  EXPECT_THAT(refused({0, 3, 2}, 6, 5), HasSubstr("not of the same model"));  // over another
  const StoredNames names = {{"w", {"fused", {0, 3, 6}}}};
  EXPECT_NO_THROW(find_weight(checkpoint(), names, {"w", 6, 5}));
}

TEST_F(StoredWeightsTest, CopiesAreKnownByEveryByte) {
  const TensorRecord& fused = *checkpoint().find("fused");
  EXPECT_TRUE(same_content(checkpoint(), fused, fused));
  EXPECT_TRUE(same_content(checkpoint(), fused, *checkpoint().find("copy")));
  EXPECT_FALSE(same_content(checkpoint(), fused, *checkpoint().find("other")));
  EXPECT_FALSE(same_content(checkpoint(), fused, *checkpoint().find("fused_bias")));
}

TEST_F(StoredWeightsTest, WhatCannotBeAWeightIsRefusedOnlyWhereItIsOne) {
  const std::string header = R"({"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                             R"("mask":{"dtype":"BOOL","shape":[2],"data_offsets":[4,6]}})";
  support::write_file(folder_.path() / "model.safetensors",
                      support::little(header.size(), 8) + header + "dddddd");
  EXPECT_EQ(find_weight(checkpoint(), {}, {"w", 1, 2}).row_bytes, 2U);
  EXPECT_THAT(refusal([&] {
                find_weight(checkpoint(), {}, {"mask", 1, 2});
              }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("\"mask\" has the dtype BOOL")));
}

TEST_F(StoredWeightsTest, WhatTheIndexPromisesAndAShardLacksIsSaid) {
  std::filesystem::rename(folder_.path() / "model.safetensors", folder_.path() / "a.safetensors");
  support::write_file(folder_.path() / "model.safetensors.index.json",
                      R"({"weight_map":{"fused":"a.safetensors","gone":"a.safetensors"}})");
  EXPECT_EQ(find_weight(checkpoint(), {}, {"fused", 12, 5}).rows.piece, 12);
  EXPECT_THAT(refusal([&] {
                find_weight(checkpoint(), {}, {"gone", 12, 5});
              }),
              HasSubstr("a.safetensors holds \"gone\", but it does not"));
}

}  // namespace
}  // namespace sluice::offload
