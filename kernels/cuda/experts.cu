#include "kernels/cuda/experts.cuh"

#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

constexpr unsigned kElementThreads = 256;

unsigned blocks_of(std::int64_t elements, unsigned threads) {
  return static_cast<unsigned>((elements + threads - 1) / threads);
}

}  // namespace

void launch_route(cudaStream_t stream, const kernels::RoutedRows& routed, TensorView logits,
                  TensorView correction, const kernels::RouterRule& rule) {
  const auto experts = static_cast<std::int32_t>(logits.columns);
  launch("route_kernel", stream, blocks_of(logits.rows, kRouteThreads), kRouteThreads, 0,
         route_kernel, routed, static_cast<float*>(logits.data), logits.rows, experts,
         vector_of(correction), rule);
  launch("sort_rows_kernel", stream, static_cast<unsigned>(experts), kSortThreads, 0,
         sort_rows_kernel, routed, logits.rows * rule.chosen, rule.chosen);
}

KernelWork route_work(TensorView logits, const kernels::RouterRule& rule) {
  const double elements = static_cast<double>(logits.rows) * static_cast<double>(logits.columns);
  const double choices = static_cast<double>(logits.rows) * rule.chosen;
  return {8 * elements + 16 * choices, elements * (rule.chosen + 4)};
}

void launch_add_rows(cudaStream_t stream, TensorView out, TensorView in,
                     const kernels::RowFactors& where) {
  constexpr std::size_t kChunkBytes = 16;
  const RowGrid grid(in.rows, in.columns);
  const bool in_chunks =
      in.columns % kChunk == 0 && rows_aligned(out, kChunkBytes) && rows_aligned(in, kChunkBytes);
  launch("add_rows_kernel", stream, grid.blocks, grid.threads, 0, add_rows_kernel, out.data,
         out.dtype, static_cast<const void*>(in.data), in.dtype, in.columns, where, in_chunks);
}

KernelWork add_rows_work(TensorView out, TensorView in) {
  const double elements = static_cast<double>(in.rows) * static_cast<double>(in.columns);
  const auto each = static_cast<double>(2 * size_of(out.dtype) + size_of(in.dtype));
  return {elements * each, 2 * elements};
}

void launch_clamp(cudaStream_t stream, TensorView rows, float limit) {
  const std::int64_t count = rows.rows * rows.columns;
  launch("clamp_kernel", stream, blocks_of(count, kElementThreads), kElementThreads, 0,
         clamp_kernel, rows.data, rows.dtype, count, limit);
}

void launch_clear(cudaStream_t stream, TensorView rows) {
  const auto words = static_cast<std::int64_t>(rows.bytes() / sizeof(std::uint16_t));
  launch("clear_kernel", stream, blocks_of(words, kElementThreads), kElementThreads, 0,
         clear_kernel, static_cast<std::uint16_t*>(rows.data), words);
}

const void* kernel_of_experts() { return reinterpret_cast<const void*>(route_kernel); }

}  // namespace sluice::cuda
