#include "kernels/cuda/layer_norm.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

void launch_layer_norm(cudaStream_t stream, TensorView out, TensorView in, TensorView weight,
                       TensorView bias, float epsilon) {
  launch("layer_norm_kernel", stream, static_cast<unsigned>(out.rows), kNormThreads, 0,
         layer_norm_kernel, static_cast<float*>(out.data), static_cast<const float*>(in.data),
         in.columns, DeviceVector{weight.rows > 0 ? weight.data : nullptr, weight.dtype},
         DeviceVector{bias.rows > 0 ? bias.data : nullptr, bias.dtype}, epsilon);
}

}  // namespace sluice::cuda
