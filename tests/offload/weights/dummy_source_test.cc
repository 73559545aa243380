#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/device/error.h"
#include "kernels/group_quantize.h"
#include "offload/weights/weight_source.h"
#include "tests/support/file_bytes.h"
#include "tests/support/scratch_folder.h"

namespace sluice::offload {
namespace {

using testing::HasSubstr;

class DummySourceTest : public testing::Test {
 protected:
  std::unique_ptr<WeightSource> make(DType dtype) {
    return make_dummy_source(dtype, *disk_, folder_.path());
  }
  static std::string read(WeightSource& source, const WeightInfo& info, std::uint64_t offset,
                          std::size_t bytes) {
    std::string text(bytes, '?');
    IoGroup group;
    source.read(info, offset, bytes, text.data(), group);
    group.wait();
    return text;
  }
  static std::vector<float> floats(const std::string& bytes) {
    std::vector<float> values(bytes.size() / 4);
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  support::ScratchFolder folder_;
  std::unique_ptr<DiskEngine> disk_ = DiskEngine::make({});
};

TEST_F(DummySourceTest, ValuesAreAFunctionOfNameAndElement) {
  const auto one = make(DType::f32);
  const auto two = make(DType::f32);
  two->find({"another", 3, 3});  // the order of asking does not matter
  const WeightInfo a = one->find({"layers.0.fc1.weight", 500, 300});
  const WeightInfo b = two->find({"layers.0.fc1.weight", 500, 300});
  const std::string whole = read(*one, a, 0, 600'000);
  EXPECT_EQ(read(*two, b, 0, 600'000), whole);
  EXPECT_EQ(read(*two, b, 12'345, 6'789), whole.substr(12'345, 6'789));  // any alignment
  const WeightInfo other = one->find({"layers.1.fc1.weight", 500, 300});
  EXPECT_NE(read(*one, other, 0, 1000), whole.substr(0, 1000));
}

TEST_F(DummySourceTest, ValuesAreSmallCentredAndNotAlikeFromRowToRow) {
  const auto source = make(DType::f32);
  const WeightInfo info =
      source->find({"layers.0.fc1.weight", 4096, 1024});  // longer than the block
  const std::vector<float> values = floats(read(*source, info, 0, std::size_t{4096} * 4096));
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += value * value;
    ASSERT_LT(std::abs(value), 0.1F);
  }
  const auto count = static_cast<double>(values.size());
  EXPECT_LT(std::abs(sum / count), 1e-3);
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.005);
  for (std::size_t row = 1; row < 4096; ++row) {
    ASSERT_NE(std::memcmp(values.data(), values.data() + row * 1024, 4096), 0) << row;
  }
}

TEST_F(DummySourceTest, EveryDtypeHasTheSameValues) {
  const std::size_t count = 100'000;
  const auto f32 = make(DType::f32);
  const auto bf16 = make(DType::bf16);
  const auto f16 = make(DType::f16);
  const auto get = [&](WeightSource& source, std::size_t bytes) {
    return read(source, source.find({"layers.3.fc2.weight", 100, 1000}), 0, bytes);
  };
  const std::vector<float> wide = floats(get(*f32, 4 * count));
  const std::string brain = get(*bf16, 2 * count);
  const std::string half = get(*f16, 2 * count);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, brain.data() + 2 * i, 2);
    ASSERT_EQ(std::bit_cast<float>(std::uint32_t{bits} << 16U), wide[i]) << i;
    std::memcpy(&bits, half.data() + 2 * i, 2);
    const int exponent = static_cast<int>(bits >> 10U & 31U);  // 0 only for zero: all are normal
    const float magnitude =
        exponent == 0 ? 0.0F
                      : std::ldexp(1.0F + static_cast<float>(bits & 1023U) / 1024, exponent - 15);
    ASSERT_EQ(bits >> 15U == 0 ? magnitude : -magnitude, wide[i]) << i;
  }
}

TEST_F(DummySourceTest, ScalesAreOne) {
  const auto source = make(DType::f16);
  const std::string ones("\0\x3c\0\x3c\0\x3c", 6);
  for (const char* name : {"layers.0.mlp.norm.weight", "head.norm.weight"}) {
    EXPECT_EQ(read(*source, source->find({name, 1, 3, WeightUse::scale}), 0, 6), ones);
  }
  for (const WeightUse use : {WeightUse::bias, WeightUse::matrix, WeightUse::table}) {
    const std::string name = "norm.weight" + std::to_string(static_cast<int>(use));
    EXPECT_NE(read(*source, source->find({name, 1, 3, use}), 0, 6), ones);
  }
}

TEST_F(DummySourceTest, KeptRangesComeFromDiskWithTheSameBytes) {
  const auto fresh = make(DType::f32);
  const auto source = make(DType::f32);
  const std::size_t bytes = std::size_t{3000} * 1000 * 4;  // longer than the block, and than 1 file
  const WeightInfo info = source->find({"layers.0.fc1.weight", 3000, 1000});
  source->find({"layers.0.fc2.weight", 5, 5});
  source->reserve_disk(2 * kDiskBlock + round_to_blocks(bytes - 2'000'000));
  source->keep_on_disk(info, 4000, 8000);
  source->keep_on_disk(info, 2'000'000, bytes - 2'000'000);
  source->keep_on_disk(info, 16'000, 0);
  const std::string whole =
      read(*fresh, fresh->find({"layers.0.fc1.weight", 3000, 1000}), 0, bytes);
  EXPECT_EQ(read(*source, info, 0, bytes), whole);
  EXPECT_EQ(read(*source, info, 11'999, 2), whole.substr(11'999, 2));  // across a border

  std::uint64_t on_disk = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    on_disk += entry.file_size();
  }
  EXPECT_EQ(on_disk, 2 * kDiskBlock + round_to_blocks(bytes - 2'000'000));
}

// What was kept is read from the file, not made up again, and not unseen.
TEST_F(DummySourceTest, AChangedFileIsAnError) {
  const auto source = make(DType::f32);
  const WeightInfo info = source->find({"layers.0.fc1.weight", 100, 100});
  source->reserve_disk(kDiskBlock);
  source->keep_on_disk(info, 400, 800);
  const std::filesystem::path file = folder_.path() / "dummy-weights.bin";
  read(*source, info, 400, 800);
  {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream << std::string(1, 'k');
  }
  std::string sentence;
  try {
    read(*source, info, 796, 8);
  } catch (const IoError& failure) {
    sentence = failure.what();
  }
  EXPECT_THAT(sentence, HasSubstr(file.string() + ", offset 0: the checksum"));
  EXPECT_EQ(read(*source, info, 0, 400).size(), 400U);
}

TEST_F(DummySourceTest, OneNameHasOneShape) {
  const auto source = make(DType::f16);
  source->find({"embed_tokens.weight", 10, 4});
  EXPECT_EQ(source->find({"embed_tokens.weight", 10, 4}).key, 0);
  EXPECT_THAT(support::refusal([&] {
                source->find({"embed_tokens.weight", 10, 5});
              }),
              HasSubstr("[10, 4] and now as [10, 5]"));
}

}  // namespace
}  // namespace sluice::offload
