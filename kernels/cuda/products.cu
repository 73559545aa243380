// Launches of our own products (those of cuBLASLt: library_product.cc).
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/few_rows_product.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"
#include "kernels/cuda/quantized_product.cuh"
#include "kernels/cuda/tensor_product.cuh"

namespace sluice::cuda {

namespace {

ProductMatrix matrix_of(const Columns& view) { return {view.data, view.dtype, view.stride}; }

unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

template <class T, int kRows>
void multiply_few(cudaStream_t stream, const Columns& out, TensorView in, TensorView weight,
                  const ProductTail& tail) {
  const bool in_chunks =
      in.columns % kChunk == 0 && rows_aligned(in, 16) && rows_aligned(weight, 16);
  launch("few_rows_kernel", stream, blocks_for(weight.rows, kFewRowsWarps), kFewRowsWarps * 32, 0,
         few_rows_kernel<T, kRows>, matrix_of(out), static_cast<const T*>(in.data),
         static_cast<const T*>(weight.data), static_cast<int>(in.rows), in.columns, weight.rows,
         end_of(tail), in_chunks);
}

template <DType kType>
void multiply_quantized(cudaStream_t stream, const Columns& out, TensorView in, TensorView weight,
                        const ProductTail& tail) {
  const bool in_shares = in.columns % kQuantGroup == 0 && rows_aligned(weight, 4) &&
                         rows_aligned(in, in.dtype == DType::f32 ? 16 : 8);
  launch("quantized_product_kernel", stream,
         blocks_for(weight.rows, kQuantizedWarps * kQuantizedColumns), kQuantizedWarps * 32, 0,
         quantized_product_kernel<kType>, matrix_of(out), in.data, in.dtype,
         static_cast<const std::byte*>(weight.data), static_cast<int>(in.rows), in.columns,
         weight.rows, end_of(tail), in_shares);
}

/// Bound by memory: product_work(). From L2 a block reads 2 bytes of every input for 128 weights,
/// at 32 rows 0.9 of q4 weights' own bytes; each split writes 4 bytes of every result, which are
/// read once.
template <DType kType, class X, int kColumns>
void multiply_on_tensor_cores(cudaStream_t stream, const Columns& out, TensorView in,
                              TensorView weight, const ProductTail& tail,
                              const TensorSplits& splits) {
  launch("tensor_product_kernel", stream, blocks_for(weight.rows, kTensorBlock) * splits.count,
         kTensorThreads, 0, tensor_product_kernel<kType, X, kColumns>, matrix_of(out),
         static_cast<const X*>(in.data), static_cast<const std::byte*>(weight.data),
         static_cast<int>(in.rows), in.columns, weight.rows, splits, end_of(tail));
  if (splits.count == 1) return;
  const RowGrid grid(in.rows, weight.rows);
  const bool in_chunks = weight.rows % kChunk == 0 && rows_aligned(out, 16) &&
                         rows_aligned(tail.bias, 16) && rows_aligned(tail.residual, 16);
  launch("merge_splits_kernel", stream, grid.blocks, grid.threads, 0, merge_splits_kernel,
         matrix_of(out), splits, weight.rows, end_of(tail), in_chunks);
}

template <DType kType, class X>
void multiply_some(cudaStream_t stream, const Columns& out, TensorView in, TensorView weight,
                   const ProductTail& tail, const TensorSplits& splits) {
  const auto multiply = [&]<int kColumns>() {
    multiply_on_tensor_cores<kType, X, kColumns>(stream, out, in, weight, tail, splits);
  };
  if (in.rows <= 8) return multiply.template operator()<1>();
  if (in.rows <= 16) return multiply.template operator()<2>();
  if (in.rows <= 32) return multiply.template operator()<4>();
  multiply.template operator()<8>();
}

/// body(out, in, tail) for every `most` rows of them.
template <class Body>
void by_rows(std::int64_t most, const Columns& out, TensorView in, const ProductTail& tail,
             const Body& body) {
  for (std::int64_t row = 0; row < in.rows; row += most) {
    const std::int64_t rows = std::min(most, in.rows - row);
    body(out.rows_from(row, rows), in.slice(row, rows), tail.rows_from(row, rows));
  }
}

}  // namespace

const void* kernel_of_products() {
  return reinterpret_cast<const void*>(few_rows_kernel<__half, 1>);
}

void launch_few_rows_product(cudaStream_t stream, const Columns& out, TensorView in,
                             TensorView weight, const ProductTail& tail) {
  by_rows(kFewRowsMost, out, in, tail,
          [&](const Columns& some_out, TensorView some_in, const ProductTail& some_tail) {
            with_activation(weight.dtype, [&]<class T>() {
              if (some_in.rows == 1) {
                multiply_few<T, 1>(stream, some_out, some_in, weight, some_tail);
              } else {
                multiply_few<T, kFewRowsMost>(stream, some_out, some_in, weight, some_tail);
              }
            });
          });
}

void launch_quantized_product(cudaStream_t stream, const Columns& out, TensorView in,
                              TensorView weight, const ProductTail& tail) {
  by_rows(kQuantizedRows, out, in, tail,
          [&](const Columns& some_out, TensorView some_in, const ProductTail& some_tail) {
            if (weight.dtype == DType::q8) {
              multiply_quantized<DType::q8>(stream, some_out, some_in, weight, some_tail);
            } else {
              multiply_quantized<DType::q4>(stream, some_out, some_in, weight, some_tail);
            }
          });
}

void launch_tensor_product(cudaStream_t stream, const Columns& out, TensorView in,
                           TensorView weight, const ProductTail& tail, int splits, float* parts) {
  const TensorSplits all{parts, static_cast<unsigned>(splits)};
  by_rows(kTensorMostRows, out, in, tail,
          [&](const Columns& some_out, TensorView some_in, const ProductTail& some_tail) {
            const auto run = [&]<class X>() {
              if (weight.dtype == DType::q8) {
                return multiply_some<DType::q8, X>(stream, some_out, some_in, weight, some_tail,
                                                   all);
              }
              multiply_some<DType::q4, X>(stream, some_out, some_in, weight, some_tail, all);
            };
            if (in.dtype == DType::f16) return run.template operator()<__half>();
            run.template operator()<__nv_bfloat16>();
          });
}

KernelWork product_work(const Columns& out, TensorView in, TensorView weight,
                        const ProductTail& tail) {
  const double results = static_cast<double>(in.rows) * static_cast<double>(weight.rows);
  double bytes = static_cast<double>(weight.bytes() + in.bytes()) +
                 results * static_cast<double>(size_of(out.dtype));
  if (tail.residual.there()) bytes += results * static_cast<double>(size_of(tail.residual.dtype));
  if (tail.bias.there()) {
    bytes += static_cast<double>(weight.rows) * static_cast<double>(size_of(tail.bias.dtype));
  }
  return {bytes, 2.0 * results * static_cast<double>(weight.columns)};
}

}  // namespace sluice::cuda
