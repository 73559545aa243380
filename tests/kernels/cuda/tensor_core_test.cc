// The host's twins of the tensor core instructions, against the layouts that PTX gives, written as
// there: tests/support/cuda_tensor_core.h.
#include "tests/support/cuda_on_host.h"
// The kernels want the words above.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <vector>

// Kernels that are no templates are not called here.
#pragma GCC diagnostic ignored "-Wunused-function"

#include "kernels/cuda/prefill_attention.cuh"
#include "kernels/cuda/tensor_product.cuh"

namespace sluice {
namespace {

using Rows = std::vector<std::vector<float>>;

// PTX ISA, "Matrix Fragments for mma.m16n8k16": element i of a lane's fragment.
int a_row(int lane, int i) {
  return (0 <= i && i < 2) || (4 <= i && i < 6) ? lane / 4 : lane / 4 + 8;
}
int a_column(int lane, int i) {
  return i < 4 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8;
}
int b_row(int lane, int i) { return i < 2 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8; }
int b_column(int lane, int) { return lane / 4; }
int c_row(int lane, int i) { return i < 2 ? lane / 4 : lane / 4 + 8; }
int c_column(int lane, int i) { return lane % 4 * 2 + (i & 1); }

std::uint32_t bits_of(__half value) { return __half_as_ushort(value); }
std::uint32_t bits_of(__nv_bfloat16 value) { return __bfloat16_as_ushort(value); }

template <class T>
std::uint32_t pair_of(float low, float high) {
  T narrow_low;
  T narrow_high;
  cuda::narrow(low, &narrow_low);
  cuda::narrow(high, &narrow_high);
  return bits_of(narrow_low) | bits_of(narrow_high) << 16U;
}

/// c + a b by one warp.
template <class T>
Rows product(const Rows& a, const Rows& b, float c) {
  Rows result(16, std::vector<float>(8));
  support::launch_on_host({1, 1, 1}, 32, 0, [&] {
    const auto lane = static_cast<int>(threadIdx.x);
    const auto at = [](const Rows& rows, int row, int column) {
      return rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
    };
    const auto a_pair = [&](int i) {
      return pair_of<T>(at(a, a_row(lane, i), a_column(lane, i)),
                        at(a, a_row(lane, i + 1), a_column(lane, i + 1)));
    };
    const auto b_pair = [&](int i) {
      return pair_of<T>(at(b, b_row(lane, i), b_column(lane, i)),
                        at(b, b_row(lane, i + 1), b_column(lane, i + 1)));
    };
    const std::uint32_t of_a[4] = {a_pair(0), a_pair(2), a_pair(4), a_pair(6)};
    float sums[4] = {c, c, c, c};
    cuda::mma_16x8x16<T>(sums, of_a, b_pair(0), b_pair(2));
    for (int i = 0; i < 4; ++i) {
      result[static_cast<std::size_t>(c_row(lane, i))]
            [static_cast<std::size_t>(c_column(lane, i))] = sums[i];
    }
  });
  return result;
}

template <class T>
class TensorCore : public testing::Test {};
using Halves = testing::Types<__half, __nv_bfloat16>;
TYPED_TEST_SUITE(TensorCore, Halves);

TYPED_TEST(TensorCore, MultipliesOneByOne) {
  // A is 1 at (row, k), B counts its columns in row k: only that row of the product is not c.
  for (std::size_t k = 0; k < 16; ++k) {
    const std::size_t row = (k * 7 + 3) % 16;
    Rows a(16, std::vector<float>(16));
    Rows b(16, std::vector<float>(8));
    a[row][k] = 1;
    for (std::size_t n = 0; n < 8; ++n) b[k][n] = static_cast<float>(n + 1);
    const Rows c = product<TypeParam>(a, b, 0.5F);
    for (std::size_t r = 0; r < 16; ++r) {
      for (std::size_t n = 0; n < 8; ++n) {
        EXPECT_EQ(c[r][n], r == row ? static_cast<float>(n) + 1.5F : 0.5F) << r << ' ' << n;
      }
    }
  }
}

TYPED_TEST(TensorCore, MultipliesWholeMatrices) {
  Rows a(16, std::vector<float>(16));
  Rows b(16, std::vector<float>(8));
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t k = 0; k < 16; ++k) a[r][k] = static_cast<float>((r * 5 + k * 3) % 13) - 6;
    for (std::size_t n = 0; n < 8; ++n) b[r][n] = static_cast<float>((r * 7 + n * 2) % 11) - 5;
  }
  const Rows c = product<TypeParam>(a, b, 1);
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t n = 0; n < 8; ++n) {
      float wanted = 1;  // small whole numbers: exact
      for (std::size_t k = 0; k < 16; ++k) wanted += a[r][k] * b[k][n];
      EXPECT_EQ(c[r][n], wanted) << r << ' ' << n;
    }
  }
}

/// A lane's registers of the four matrices at rows 0-7, 8-15, 16-23, 24-31, whose elements are
/// 100 row + column.
template <class Load>
std::vector<std::array<std::uint32_t, 4>> loaded(const Load& load) {
  alignas(16) static std::uint16_t memory[32][8];
  for (unsigned row = 0; row < 32; ++row) {
    for (unsigned column = 0; column < 8; ++column) {
      memory[row][column] = static_cast<std::uint16_t>(100 * row + column);
    }
  }
  std::vector<std::array<std::uint32_t, 4>> registers(32);
  support::launch_on_host({1, 1, 1}, 32, 0, [&] {
    std::uint32_t to[4];
    load(to, memory[threadIdx.x]);
    std::copy(to, to + 4, registers[threadIdx.x].begin());
  });
  return registers;
}

TEST(LoadMatrix, GivesALaneTwoNeighboursOfARow) {
  const auto registers = loaded([](auto& to, const void* row) { cuda::load_matrix_x4(to, row); });
  EXPECT_EQ(registers[0][0], 0U | 1U << 16U);
  EXPECT_EQ(registers[5][0], 102U | 103U << 16U);                // row 1, columns 2 and 3
  EXPECT_EQ(registers[31][1], 1506U | 1507U << 16U);             // matrix 1, row 7, columns 6 and 7
  EXPECT_EQ(registers[9][3], (2600U + 2) | (2600U + 3) << 16U);  // matrix 3, row 2
}

TEST(LoadMatrix, TransposedGivesALaneTwoNeighboursOfAColumn) {
  const auto registers =
      loaded([](auto& to, const void* row) { cuda::load_matrix_x4_transposed(to, row); });
  EXPECT_EQ(registers[0][0], 0U | 100U << 16U);
  EXPECT_EQ(registers[5][0], 201U | 301U << 16U);     // rows 2 and 3, column 1
  EXPECT_EQ(registers[31][1], 1407U | 1507U << 16U);  // matrix 1, rows 6 and 7, column 7
}

TEST(AsyncCopy, ComesAtTheWaitForItsGroup) {
  alignas(16) static float shared[12];
  alignas(16) static const float global[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  support::launch_on_host({1, 1, 1}, 1, 0, [&] {
    cuda::copy_async_16(shared, global, true);
    cuda::commit_copies();
    cuda::copy_async_16(shared + 4, global + 4, true);
    cuda::copy_async_16(shared + 8, global, false);
    cuda::commit_copies();
    EXPECT_TRUE(std::isnan(shared[0]));
    cuda::wait_copies<1>();
    EXPECT_EQ(shared[3], 4);
    EXPECT_TRUE(std::isnan(shared[4]));
    cuda::wait_copies<0>();
    EXPECT_EQ(shared[4], 5);
    EXPECT_EQ(shared[8], 0);
  });
}

TEST(AsyncCopy, GoesToAPlaceOnlyAfterTheWaitForTheOneBefore) {
  alignas(16) static float shared[4];
  alignas(16) static const float global[4] = {};
  const auto copy_twice = [](bool waits) {
    support::launch_on_host({1, 1, 1}, 1, 0, [waits] {
      cuda::copy_async_16(shared, global, true);
      cuda::commit_copies();
      if (waits) cuda::wait_copies<0>();
      cuda::copy_async_16(shared, global, true);
      cuda::commit_copies();
      cuda::wait_copies<0>();
    });
  };
  EXPECT_NO_THROW(copy_twice(true));
  EXPECT_THROW(copy_twice(false), std::logic_error);
  EXPECT_NO_THROW(copy_twice(true)) << "what was under way is forgotten";
}

/// ldmatrix reads a chunk of each of eight rows at a time; eight chunks are all banks.
template <int kDim>
void expect_all_banks() {
  for (int chunk = 0; chunk < kDim / 8; ++chunk) {
    unsigned banks = 0;
    for (int row = 0; row < 8; ++row) {
      const int at = cuda::chunk_at<kDim>(row, chunk);
      EXPECT_EQ(at % 8, 0);
      EXPECT_EQ(at, cuda::chunk_behind<kDim>(cuda::chunk_at<kDim>(row, chunk % 2), chunk / 2 * 16));
      banks |= 1U << at / 8 % 8;
    }
    EXPECT_EQ(banks, 0xFFU) << "head_dim " << kDim << ", chunk " << chunk;
  }
}

TEST(PageDivider, Divides) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t tokens : {1, 2, 3, 5, 7, 10, 16, 48, 255, 641, 65536, 65537,
                                    (1 << 30) - 1, 1 << 30, (1 << 30) + 1, kMost - 1, kMost}) {
    const cuda::PageDivider divider = cuda::page_divider(tokens);
    for (std::int32_t page = 0; page < std::min(kMost / tokens, 1000); ++page) {
      for (const std::int32_t first : {page * tokens, (kMost / tokens - page) * tokens}) {
        for (const std::int32_t position : {std::max(first - 1, 0), first}) {
          ASSERT_EQ(divider.page(position), position / tokens) << position << " / " << tokens;
        }
      }
    }
    EXPECT_EQ(divider.page(kMost), kMost / tokens) << tokens;
  }
}

TEST(PrefillTile, RowsOfAMatrixLieInDifferentBanks) {
  expect_all_banks<64>();
  expect_all_banks<80>();
  expect_all_banks<128>();
}

/// Eight lanes, those of two rows, read 16 bytes each at a time; eight chunks are all banks.
template <DType kType>
void expect_rows_side_by_side() {
  for (int half = 0; half < 2; ++half) {
    unsigned read = 0;
    for (const int second : {0, cuda::kSecondChunk<kType>}) {
      for (int row = 0; row < 8; row += 2) {
        unsigned banks = 0;
        for (int lane = 0; lane < 8; ++lane) {
          const int chunk = half * 8 + cuda::lane_chunk<kType>(lane % 4) + second;
          const int at = cuda::slab_chunk<kType>(row + lane / 4, chunk);
          banks |= 1U << at % 8;
          if (row == 0 && lane < 4) read |= 1U << chunk;
        }
        EXPECT_EQ(banks, 0xFFU) << name_of(kType) << ", row " << row << ", second " << second;
      }
    }
    EXPECT_EQ(read, half == 0 ? 0xFFU : 0xFF00U) << "every chunk of the half, once";
  }
}

TEST(TensorSlab, TwoRowsLieInAllBanks) {
  expect_rows_side_by_side<DType::q8>();
  expect_rows_side_by_side<DType::q4>();
}

}  // namespace
}  // namespace sluice
