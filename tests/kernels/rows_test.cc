// The operations that work row by row: gather, gather_add, select_rows, layer_norm, append_kv.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device/error.h"
#include "kernels/engine.h"
#include "kernels/group_quantize.h"
#include "tests/support/reference_ops.h"

namespace sluice::kernels {
namespace {

using reference::Matrix;

Engine engine_of(int threads) {
  EngineOptions options;
  options.device = "cpu";
  options.threads = threads;
  return make_engine(options);
}

void finish(Engine& engine) { engine.backend->synchronize(engine.backend->record(Lane::compute)); }

constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16};
constexpr std::int64_t kWidths[] = {1, 3, 16, 17, 64, 200, 2053};

TEST(Gather, TakesRowsOfBothPartsOfTheTableExactly) {
  Engine engine = engine_of(2);
  const std::vector<std::int32_t> ids = {6, 0, 3, 3, 2};
  for (const DType dtype : kDTypes) {
    for (const std::int64_t width : kWidths) {
      Matrix table = Matrix::random(7, width, dtype, 1);
      const Matrix expected = reference::gather(table, ids);
      for (const std::int64_t resident : {0, 3, 7}) {
        Matrix out(5, width);
        engine.device_ops->gather(out.view(), table.split(resident), ids.data());
        finish(engine);
        ASSERT_EQ(out.bytes(), expected.bytes()) << name_of(dtype) << " " << width;
      }
    }
  }
}

TEST(Gather, AddsToWhatIsThere) {
  Engine engine = engine_of(2);
  const std::vector<std::int32_t> ids = {1, 1};
  for (const std::int64_t width : kWidths) {
    Matrix table = Matrix::random(2, width, DType::f16, 1);
    Matrix out = Matrix::random(2, width, DType::f32, 2);
    const Matrix before = out;
    engine.device_ops->gather_add(out.view(), table.split(1), ids.data());
    finish(engine);
    for (std::int64_t i = 0; i < width; ++i) {
      ASSERT_FLOAT_EQ(static_cast<float>(out.at(1, i)),
                      static_cast<float>(before.at(1, i) + table.at(1, i)));
    }
  }
}

TEST(Gather, ExpandsQuantisedRowsExactly) {
  Engine engine = engine_of(2);
  const std::vector<std::int32_t> ids = {6, 0, 3, 3, 2};
  for (const DType dtype : {DType::q8, DType::q4}) {
    for (const std::int64_t width : kWidths) {
      Matrix dense = Matrix::random(7, width, DType::f32, 1);
      const std::size_t row_bytes = row_bytes_of(dtype, width);
      std::vector<std::byte> table(7 * row_bytes);
      quantize_rows(DType::f32, dense.view().data, 7, width, dtype, table.data());
      dequantize_rows(dtype, table.data(), 7, width, static_cast<float*>(dense.view().data));
      const Matrix expected = reference::gather(dense, ids);
      for (const std::int64_t resident : {0, 3, 7}) {
        const TensorView all = {table.data(), dtype, 7, width};
        const SplitMatrix split = {all.slice(0, resident), all.slice(resident, 7 - resident)};
        Matrix out(5, width);
        engine.device_ops->gather(out.view(), split, ids.data());
        finish(engine);
        ASSERT_EQ(out.bytes(), expected.bytes()) << name_of(dtype) << " " << width;
        engine.device_ops->gather_add(out.view(), split, ids.data());
        finish(engine);
        for (std::int64_t i = 0; i < width; ++i) {
          ASSERT_EQ(out.at(1, i), 2 * expected.at(1, i)) << name_of(dtype) << " " << width;
        }
      }
    }
  }
}

TEST(Gather, RefusesIdsOutsideTheTable) {
  for (const std::int32_t id : {-1, 7, 1 << 30}) {
    Engine engine = engine_of(1);
    Matrix table(7, 4);
    Matrix out(1, 4);
    engine.device_ops->gather(out.view(), table.split(7), &id);
    try {
      finish(engine);
      FAIL() << "id " << id << " was taken";
    } catch (const DeviceError& error) {
      EXPECT_NE(std::string(error.what()).find("id " + std::to_string(id)), std::string::npos);
    }
  }
}

TEST(SelectRows, TakesThemInOrderAndRefusesOthers) {
  Engine engine = engine_of(1);
  Matrix in = Matrix::random(5, 9, DType::f32, 1);
  Matrix out(3, 9);
  const std::vector<std::int32_t> rows = {4, 0, 4};
  engine.device_ops->select_rows(out.view(), in.view(), rows.data());
  finish(engine);
  EXPECT_EQ(out.bytes(), reference::gather(in, rows).bytes());
  const std::vector<std::int32_t> wrong = {4, 5, 0};
  engine.device_ops->select_rows(out.view(), in.view(), wrong.data());
  EXPECT_THROW(finish(engine), DeviceError);
}

TEST(LayerNorm, EqualsTheReference) {
  Engine engine = engine_of(2);
  for (const DType dtype : kDTypes) {
    for (const std::int64_t width : kWidths) {
      Matrix in = Matrix::random(33, width, DType::f32, 1);
      Matrix weight = Matrix::random(1, width, dtype, 2);
      Matrix bias = Matrix::random(1, width, dtype, 3);
      Matrix out(33, width);
      engine.device_ops->layer_norm(out.view(), in.view(), weight.view(), bias.view(), 1e-5F);
      finish(engine);
      const Matrix expected = reference::layer_norm(in, weight, bias, 1e-5);
      for (std::int64_t i = 0; i < width; ++i) {
        ASSERT_NEAR(out.at(32, i), expected.at(32, i), 1e-5) << name_of(dtype) << " " << width;
        ASSERT_NEAR(out.at(0, i), expected.at(0, i), 1e-5) << name_of(dtype) << " " << width;
      }
    }
  }
}

TEST(LayerNorm, WorksInPlaceAndWithoutWeights) {
  Engine engine = engine_of(1);
  Matrix rows = Matrix::random(3, 50, DType::f32, 1);
  for (std::int64_t i = 0; i < 50; ++i) rows.set(1, i, 1000.0 + rows.at(1, i));  // a far mean
  const Matrix expected = reference::layer_norm(rows, {}, {}, 1e-5);
  engine.device_ops->layer_norm(rows.view(), rows.view(), {}, {}, 1e-5F);
  finish(engine);
  for (std::int64_t i = 0; i < 50; ++i) {
    EXPECT_NEAR(rows.at(0, i), expected.at(0, i), 1e-5);
    EXPECT_NEAR(rows.at(1, i), expected.at(1, i), 5e-4);
  }
}

TEST(LayerNorm, ARowAloneEqualsTheRowAmongOthersOnAnyThreads) {
  Matrix in = Matrix::random(40, 1537, DType::f32, 1);
  Matrix weight = Matrix::random(1, 1537, DType::f16, 2);
  Matrix all(40, 1537);
  Engine one = engine_of(1);
  one.device_ops->layer_norm(all.view(), in.view(), weight.view(), {}, 1e-5F);
  finish(one);
  for (const int threads : {1, 2, 4}) {
    Engine engine = engine_of(threads);
    Matrix again(40, 1537);
    engine.device_ops->layer_norm(again.view(), in.view(), weight.view(), {}, 1e-5F);
    Matrix alone(1, 1537);
    engine.device_ops->layer_norm(alone.view(), in.view().slice(17, 1), weight.view(), {}, 1e-5F);
    finish(engine);
    EXPECT_EQ(all.bytes(), again.bytes());
    EXPECT_EQ(std::memcmp(alone.view().data, all.view().row(17), all.view().row_bytes()), 0);
  }
}

TEST(LayerNorm, RefusesWeightsOfAnotherWidth) {
  Engine engine = engine_of(1);
  Matrix in(2, 8);
  Matrix weight(1, 7);
  EXPECT_THROW(engine.device_ops->layer_norm(in.view(), in.view(), weight.view(), {}, 1e-5F),
               DeviceError);
  EXPECT_THROW(engine.device_ops->layer_norm(in.view(), in.view(), {}, weight.view(), 1e-5F),
               DeviceError);
}

TEST(AppendKv, RoundsToNearestAtThePlaceTheLayoutSays) {
  const std::vector<double> hard = {1.0 + 0x1p-11,  // a tie of f16, down to even
                                    1.0 + 0x3p-11,  // a tie of f16, up to even
                                    1.0 + 0x1p-8,   // a tie of bf16, down to even
                                    1.0 + 0x3p-8,   // a tie of bf16, up to even
                                    1.99999,       1e-7,     0x1p-24, 0x1p-25, -65519.0,
                                    -65521.0,      INFINITY, -0.0,    3e38};
  const auto dim = static_cast<std::int32_t>(hard.size());
  for (const DType dtype : kDTypes) {
    Engine engine = engine_of(1);
    KvPages cache;
    cache.dtype = dtype;
    cache.kv_heads = 2;
    cache.head_dim = dim;
    cache.page_tokens = 4;
    cache.page_stride_bytes = static_cast<std::int64_t>(cache.page_bytes());
    std::vector<std::byte> memory(3 * cache.page_bytes());
    cache.base = memory.data();
    Matrix keys = Matrix::random(3, 2 * dim, DType::f32, 1);
    Matrix values = Matrix::random(3, 2 * dim, DType::f32, 2);
    for (std::int32_t i = 0; i < dim; ++i) {
      values.set(2, dim + i, hard[static_cast<std::size_t>(i)]);
    }
    // Rows 1 and 2 are tokens 3 and 4 of a sequence: the last of one page, the first of the next.
    const std::int32_t first_row = 1, new_tokens = 2, context = 5, pages[] = {2, 0};
    const KvBatch batch = {1, 2, &first_row, &new_tokens, &context, pages};
    engine.device_ops->append_kv(cache, batch, keys.view(), values.view());
    finish(engine);
    const auto expect = [&](const Matrix& rows, std::int64_t row, std::size_t page,
                            std::int64_t half, std::int64_t token) {
      for (std::int64_t head = 0; head < 2; ++head) {
        for (std::int64_t i = 0; i < dim; ++i) {
          Matrix rounded(1, 1, dtype);
          rounded.set(0, 0, rows.at(row, head * dim + i));
          const auto index = static_cast<std::size_t>(((half * 2 + head) * 4 + token) * dim + i);
          ASSERT_EQ(std::memcmp(memory.data() + page * cache.page_bytes() + index * size_of(dtype),
                                rounded.bytes().data(), size_of(dtype)),
                    0)
              << name_of(dtype) << " of " << rows.at(row, head * dim + i);
        }
      }
    };
    expect(keys, 1, 2, 0, 3);
    expect(values, 1, 2, 1, 3);
    expect(keys, 2, 0, 0, 0);
    expect(values, 2, 0, 1, 0);
  }
}

}  // namespace
}  // namespace sluice::kernels
