#include "kernels/cuda/sample.cuh"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

// A row is one block's, so few rows keep few multiprocessors busy: what bounds it is the time of
// the passes over one row, which the second-level cache has from the product before (200 KB of
// 50272 logits). Greedy is one pass; a temperature alone adds two (weighing, and half of the rest
// again and again along ids), log-probabilities one and one for each further candidate; top-k and
// top-p each bisect 32-bit keys, over the row until 1024 tokens are left.
KernelWork sample_work(TensorView logits) {
  const double elements = static_cast<double>(logits.rows) * static_cast<double>(logits.columns);
  return {4 * elements, elements};
}

const void* kernel_of_sample() { return reinterpret_cast<const void*>(sample_kernel); }

void launch_sample(cudaStream_t stream, kernels::SampledRow* sampled, TensorView logits,
                   const kernels::SampleRow* rows, const kernels::SampleLists& lists,
                   float* scratch, std::size_t scratch_bytes) {
  const auto at_once = static_cast<std::int64_t>(scratch_bytes / logits.row_bytes());
  for (std::int64_t row = 0; row < logits.rows; row += at_once) {
    const std::int64_t count = std::min(at_once, logits.rows - row);
    launch("sample_kernel", stream, static_cast<unsigned>(count), kSampleThreads, 0, sample_kernel,
           sampled + row, reinterpret_cast<const float*>(logits.row(row)),
           static_cast<std::int32_t>(logits.columns), rows + row, lists, scratch);
  }
}

}  // namespace sluice::cuda
