// How products are done, as data: which way, what cuBLASLt does of it and what is left to our own
// kernel; and what is remembered.
#include "kernels/cuda/product_plan.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "kernels/cuda/recent_cache.h"

namespace sluice::cuda {
namespace {

using kernels::Activation;

/// Many rows, weights and activations of one dtype.
ProductShape shape_of(DType dtype) {
  ProductShape shape;
  shape.rows = 100;
  shape.columns = 64;
  shape.depth = 128;
  shape.in = shape.weight = shape.out = dtype;
  return shape;
}

TEST(ProductPlan, LibraryDoesBiasAndResidualOfTheResultsDtype) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    ProductShape shape = shape_of(dtype);
    shape.bias = dtype;
    shape.residual = dtype;
    shape.residual_is_out = true;
    const ProductPlan plan = plan_product(shape, {});
    EXPECT_EQ(plan.way, ProductWay::library);
    EXPECT_EQ(plan.operand, dtype);
    EXPECT_EQ(plan.result, dtype);
    EXPECT_TRUE(plan.bias && plan.residual);
    EXPECT_FALSE(plan.has_tail());
  }
}

TEST(ProductPlan, OneRowIsOurs) {
  ProductShape shape = shape_of(DType::f16);
  shape.rows = 1;
  EXPECT_EQ(plan_product(shape, {}).way, ProductWay::few_rows);
  EXPECT_EQ(plan_product(shape, {.few_rows = 0}).way, ProductWay::library);
  shape.rows = 2;
  EXPECT_EQ(plan_product(shape, {}).way, ProductWay::library);
  EXPECT_EQ(plan_product(shape, {.few_rows = 4}).way, ProductWay::few_rows);
}

TEST(ProductPlan, BiasOfAnotherDtypeOrAtAnOddAddressIsLeftToTheTail) {
  ProductShape shape = shape_of(DType::f16);
  shape.bias = DType::f32;
  EXPECT_FALSE(plan_product(shape, {}).bias);
  EXPECT_TRUE(plan_product(shape, {}).tail_bias);
  shape.bias = DType::f16;
  EXPECT_TRUE(plan_product(shape, {}).bias);
  shape.bias_aligned = false;
  EXPECT_FALSE(plan_product(shape, {}).bias);
  EXPECT_TRUE(plan_product(shape, {}).tail_bias);
}

TEST(ProductPlan, ReluIsTheLibrarysOnlyWhereItMayBe) {
  ProductShape shape = shape_of(DType::f16);
  shape.bias = DType::f16;
  shape.activation = Activation::relu;
  const ProductPlan ours = plan_product(shape, {});
  EXPECT_TRUE(ours.bias);
  EXPECT_FALSE(ours.relu);
  EXPECT_EQ(ours.tail_activation, Activation::relu);
  const ProductPlan theirs = plan_product(shape, {.cublas_relu = true});
  EXPECT_TRUE(theirs.bias && theirs.relu);
  EXPECT_FALSE(theirs.has_tail());
  // A bias that comes later must come before the ReLU.
  shape.bias = DType::f32;
  const ProductPlan late = plan_product(shape, {.cublas_relu = true});
  EXPECT_FALSE(late.relu);
  EXPECT_TRUE(late.tail_bias);
  EXPECT_EQ(late.tail_activation, Activation::relu);
}

TEST(ProductPlan, GeluIsOurs) {
  ProductShape shape = shape_of(DType::bf16);
  shape.activation = Activation::gelu;
  const ProductPlan plan = plan_product(shape, {.cublas_relu = true});
  EXPECT_EQ(plan.tail_activation, Activation::gelu);
  EXPECT_FALSE(plan.scratch);
}

TEST(ProductPlan, ResidualComesAfterTheActivation) {
  ProductShape shape = shape_of(DType::f16);
  shape.activation = Activation::relu;
  shape.residual = DType::f16;
  const ProductPlan plan = plan_product(shape, {.cublas_relu = true});
  EXPECT_FALSE(plan.residual);
  EXPECT_TRUE(plan.tail_residual);
  EXPECT_FALSE(plan.scratch);
  // If it is out, the product must not overwrite it.
  shape.residual_is_out = true;
  const ProductPlan in_place = plan_product(shape, {.cublas_relu = true});
  EXPECT_TRUE(in_place.scratch && in_place.tail_residual);
  EXPECT_EQ(in_place.result, DType::f32);
}

TEST(ProductPlan, AFactorComesAfterTheProduct) {
  ProductShape shape = shape_of(DType::f16);
  shape.bias = DType::f16;
  shape.residual = DType::f16;
  shape.combine = Combine::multiply;
  const ProductPlan plan = plan_product(shape, {});
  EXPECT_TRUE(plan.bias && plan.tail_residual);
  EXPECT_FALSE(plan.residual || plan.scratch);
  shape.residual_is_out = true;
  const ProductPlan in_place = plan_product(shape, {});
  EXPECT_TRUE(in_place.scratch && in_place.tail_bias && in_place.tail_residual);
  EXPECT_FALSE(in_place.residual);
  shape.weight = DType::q4;  // expanded weights lie where the scratch would
  EXPECT_EQ(plan_product(shape, {}).way, ProductWay::quantized);
  shape.residual_is_out = false;
  EXPECT_EQ(plan_product(shape, {}).way, ProductWay::library);
}

TEST(ProductPlan, OtherDtypesGoThroughScratch) {
  ProductShape shape = shape_of(DType::f16);
  for (const DType weight : {DType::f32, DType::bf16}) {
    shape.weight = weight;
    shape.bias = DType::f16;
    const ProductPlan plan = plan_product(shape, {});
    EXPECT_EQ(plan.operand, weight);
    EXPECT_TRUE(plan.scratch && plan.tail_bias && plan.has_tail());
    EXPECT_FALSE(plan.bias);
    EXPECT_EQ(plan.result, DType::f32);
  }
}

TEST(ProductPlan, LogitsAreF32StraightFromTheLibrary) {
  ProductShape shape = shape_of(DType::f16);
  shape.out = DType::f32;
  const ProductPlan plan = plan_product(shape, {});
  EXPECT_EQ(plan.result, DType::f32);
  EXPECT_FALSE(plan.has_tail());
}

TEST(ProductPlan, QuantisedWeightsAreExpandedForManyRows) {
  for (const DType weight : {DType::q8, DType::q4}) {
    ProductShape shape = shape_of(DType::bf16);
    shape.weight = weight;
    EXPECT_EQ(plan_product(shape, {}).operand, DType::bf16);
    shape.out = DType::f32;  // logits
    EXPECT_EQ(plan_product(shape, {}).operand, DType::bf16);
    shape.in = DType::f32;
    EXPECT_EQ(plan_product(shape, {}).operand, DType::f16);
    EXPECT_EQ(plan_product(shape, {}).way, ProductWay::library);
    shape.rows = 16;
    EXPECT_EQ(plan_product(shape, {}).way, ProductWay::quantized);
  }
}

TEST(ProductPlan, TensorCoresTakeAlignedRowsOfWholeParts) {
  ProductShape shape = shape_of(DType::f16);
  shape.weight = DType::q4;
  shape.depth = 512;
  shape.rows = 64;
  const ProductRules rules{.tensor_cores = true, .multiprocessors = 4};
  EXPECT_EQ(plan_product(shape, rules).way, ProductWay::tensor);
  EXPECT_EQ(plan_product(shape, {}).way, ProductWay::library);
  for (const auto change :
       {+[](ProductShape& s) { s.rows = 65; }, +[](ProductShape& s) { s.depth = 320; },
        +[](ProductShape& s) { s.operands_aligned = false; },
        +[](ProductShape& s) { s.in = s.out = DType::f32; }}) {
    ProductShape other = shape;
    change(other);
    EXPECT_EQ(plan_product(other, rules).way, ProductWay::library);
    other.rows = 3;
    EXPECT_NE(plan_product(other, rules).way, ProductWay::library);
  }
}

/// Two blocks of 128 rows of weights a multiprocessor, none of less than 1024 columns, however many
/// rows the input has.
TEST(ProductPlan, ColumnsAreSplitWhereRowsOfWeightsDoNotFillTheDevice) {
  ProductShape shape = shape_of(DType::f16);
  shape.weight = DType::q4;
  const ProductRules rules{.tensor_cores = true, .multiprocessors = 132};
  struct Case {
    std::int64_t columns, depth;
    int splits;
  };
  for (const Case& one : {Case{12288, 4096, 2}, Case{4096, 4096, 4}, Case{4096, 16384, 8},
                          Case{16896, 4096, 2}, Case{16897, 4096, 1}, Case{50272, 4096, 1},
                          Case{768, 1792, 1}, Case{768, 2048, 2}, Case{1, 49152, 48}}) {
    shape.columns = one.columns;
    shape.depth = one.depth;
    for (const std::int64_t rows : {1, 8, 33, 64}) {
      shape.rows = rows;
      EXPECT_EQ(plan_product(shape, rules).splits, one.splits) << one.columns << ' ' << one.depth;
    }
  }
  shape.rows = 65;
  EXPECT_EQ(plan_product(shape, rules).splits, 1) << "cuBLASLt's";
}

TEST(ProductPlan, QuantisedWeightsAndScratchDoNotMeet) {
  for (const DType in : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType out : {DType::f32, in}) {
      for (const auto activation : {Activation::none, Activation::relu, Activation::silu}) {
        for (const bool in_place : {false, true}) {
          ProductShape shape = shape_of(in);
          shape.weight = DType::q4;
          shape.out = out;
          shape.activation = activation;
          shape.residual = out;
          shape.residual_is_out = in_place;
          const ProductPlan plan = plan_product(shape, {});
          EXPECT_FALSE(plan.way == ProductWay::library && plan.scratch);
        }
      }
    }
  }
}

TEST(ProductPlan, BareLeavesAllButTheResidualToTheTail) {
  ProductShape shape = shape_of(DType::f16);
  shape.bias = DType::f16;
  shape.activation = Activation::relu;
  const ProductPlan plan = plan_product(shape, {.cublas_relu = true}).bare();
  EXPECT_FALSE(plan.bias || plan.relu);
  EXPECT_TRUE(plan.tail_bias);
  EXPECT_EQ(plan.tail_activation, Activation::relu);
  shape.activation = Activation::none;
  shape.residual = DType::f16;
  EXPECT_TRUE(plan_product(shape, {}).bare().residual);
}

TEST(LibraryCall, EveryFieldCounts) {
  std::vector<LibraryCall> calls(15);
  calls[1].rows = 1;
  calls[2].columns = 1;
  calls[3].depth = 1;
  calls[4].out_stride = 1;
  calls[5].operand = DType::f16;
  calls[6].result = DType::f16;
  calls[7].bias = true;
  calls[8].relu = true;
  calls[9].residual = true;
  calls[10].in_place = true;
  calls[11].weight_alignment = 1;
  calls[12].in_alignment = 1;
  calls[13].residual_alignment = 1;
  calls[14].out_alignment = 1;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_FALSE(calls[i] == calls[j]) << i << " " << j;
      EXPECT_NE(hash_of(calls[i]), hash_of(calls[j])) << i << " " << j;
    }
  }
}

TEST(Alignment, IsTheLargestPowerOfTwoUpTo256) {
  const auto at = [](std::uintptr_t address) {
    return alignment_of(reinterpret_cast<const void*>(address));
  };
  EXPECT_EQ(at(2), 2U);
  EXPECT_EQ(at(48), 16U);
  EXPECT_EQ(at(256), 256U);
  EXPECT_EQ(at(4096), 256U);
  EXPECT_EQ(at(4096 + 8), 8U);
}

struct OddKey {
  int number;
  bool operator==(const OddKey&) const = default;
};
std::uint64_t hash_of(const OddKey& key) { return static_cast<std::uint64_t>(key.number % 2); }

TEST(RecentCache, MakesOnceAndForgetsWhatWasNotAskedForLongest) {
  RecentCache<OddKey, int> cache(3);
  int made = 0;
  const auto ask = [&](int number) {
    return cache.find_or_make({number}, [&] { return ++made, number * 10; });
  };
  EXPECT_EQ(ask(1), 10);
  EXPECT_EQ(ask(2), 20);
  EXPECT_EQ(ask(3), 30);  // with the hash of 1
  EXPECT_EQ(ask(1), 10);
  EXPECT_EQ(made, 3);
  EXPECT_EQ(ask(4), 40);  // instead of 2
  EXPECT_EQ(cache.size(), 3U);
  EXPECT_EQ(ask(1) + ask(3) + ask(4), 80);
  EXPECT_EQ(made, 4);
  EXPECT_EQ(ask(2), 20);  // instead of 1
  EXPECT_EQ(made, 5);
  EXPECT_EQ(ask(1), 10);
  EXPECT_EQ(made, 6);
}

TEST(RecentCache, KeepsTheOthersWhereMakingThrows) {
  RecentCache<OddKey, int> cache(1);
  EXPECT_EQ(cache.find_or_make({1}, [] { return 10; }), 10);
  EXPECT_THROW(cache.find_or_make({2}, []() -> int { throw std::runtime_error("no"); }),
               std::runtime_error);
  EXPECT_EQ(cache.find_or_make({1}, [] { return 11; }), 10);
}

}  // namespace
}  // namespace sluice::cuda
