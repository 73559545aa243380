#include "kernels/cuda/layer_norm.cuh"

#include "kernels/cuda/check.h"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

void launch_layer_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                       TensorView bias, float epsilon) {
  layer_norm_kernel<<<static_cast<unsigned>(out.rows), kNormThreads, 0, stream>>>(
      static_cast<float*>(out.data), static_cast<const float*>(in.data), in.columns,
      {weight.rows > 0 ? weight.data : nullptr, weight.dtype},
      {bias.rows > 0 ? bias.data : nullptr, bias.dtype}, epsilon);
  check_launch("layer_norm_kernel");
}

}  // namespace sluice::cuda
