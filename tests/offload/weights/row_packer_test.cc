#include "offload/weights/row_packer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/group_quantize.h"
#include "tests/support/file_bytes.h"

namespace sluice::offload {
namespace {

/// One tensor of f32, in memory.
class MemorySource : public WeightSource {
 public:
  explicit MemorySource(std::vector<float> values) : values_(std::move(values)) {}
  WeightInfo find(const WeightSpec& spec) override {
    return {DType::f32, spec.rows, spec.columns, 0};
  }
  void read(const WeightInfo&, std::uint64_t offset, std::size_t bytes, void* target,
            IoGroup&) override {
    largest_ = std::max(largest_, bytes);
    std::memcpy(target, reinterpret_cast<const std::byte*>(values_.data()) + offset, bytes);
  }
  void keep_on_disk(const WeightInfo&, std::uint64_t, std::size_t) override {}
  std::size_t largest() const { return largest_; }

 private:
  std::vector<float> values_;
  std::size_t largest_ = 0;
};

std::vector<float> waves(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = std::sin(static_cast<float>(i) * 0.37F);
  return values;
}

// Three pieces and a bit, at widths that do and do not divide into groups.
TEST(RowPackerTest, GivesTheBytesOfAllRowsTogetherFromPiecesOfThem) {
  for (const std::int64_t columns : {1000, 1024}) {
    const std::int64_t rows = 6400;
    const std::vector<float> values = waves(static_cast<std::size_t>(rows * columns));
    for (const DType to : {DType::q4, DType::q8, DType::f32}) {
      std::vector<std::byte> expected(static_cast<std::size_t>(rows) * row_bytes_of(to, columns));
      if (to == DType::f32) {
        std::memcpy(expected.data(), values.data(), expected.size());
      } else {
        kernels::quantize_rows(DType::f32, values.data(), rows, columns, to, expected.data());
      }
      for (const int threads : {1, 3}) {
        MemorySource source(values);
        RowPacker packer(source, threads);
        std::vector<std::byte> packed;
        packer.pack("m", source.find({"m", rows, columns}), to,
                    [&](const std::byte* data, std::size_t bytes) {
                      EXPECT_EQ(bytes % row_bytes_of(to, columns), 0U);
                      packed.insert(packed.end(), data, data + bytes);
                    });
        EXPECT_TRUE(packed == expected) << name_of(to) << " " << columns << " " << threads;
        EXPECT_LE(source.largest(), std::size_t{8} << 20U);
      }
    }
  }
}

TEST(RowPackerTest, WhatCannotBeQuantisedIsNamed) {
  std::vector<float> values = waves(200 * 64);
  values[150 * 64 + 7] = std::numeric_limits<float>::infinity();
  MemorySource source(values);
  RowPacker packer(source, 2);
  EXPECT_THAT(support::refusal([&] {
                packer.pack("layers.0.fc1.weight", source.find({"", 200, 64}), DType::q4,
                            [](const std::byte*, std::size_t) {});
              }),
              testing::AllOf(testing::HasSubstr("\"layers.0.fc1.weight\" from its row 100 on"),
                             testing::HasSubstr("row 50, column 7")));
}

}  // namespace
}  // namespace sluice::offload
