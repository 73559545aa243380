#include "kernels/cuda/rows.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {
constexpr int kThreads = 256;

template <DType kType>
void gather_as(cudaStream_t stream, TensorView out, const DeviceTable& table,
               const std::int32_t* ids, bool add) {
  launch("gather_kernel", stream, static_cast<unsigned>(out.rows), kThreads, 0,
         gather_kernel<kType>, static_cast<float*>(out.data), table, ids, out.columns, add);
}

}  // namespace

void launch_gather(cudaStream_t stream, TensorView out, const SplitMatrix& table,
                   const std::int32_t* ids, bool add) {
  const DeviceTable rows{static_cast<const std::byte*>(table.resident.data),
                         static_cast<const std::byte*>(table.streamed.data), table.resident.rows,
                         table.rows()};
  switch (table.dtype()) {
    case DType::f16:
      gather_as<DType::f16>(stream, out, rows, ids, add);
      break;
    case DType::bf16:
      gather_as<DType::bf16>(stream, out, rows, ids, add);
      break;
    case DType::q8:
      gather_as<DType::q8>(stream, out, rows, ids, add);
      break;
    case DType::q4:
      gather_as<DType::q4>(stream, out, rows, ids, add);
      break;
    default:
      gather_as<DType::f32>(stream, out, rows, ids, add);
  }
}

void launch_select_rows(cudaStream_t stream, TensorView out, TensorView in,
                        const std::int32_t* rows) {
  launch("select_rows_kernel", stream, static_cast<unsigned>(out.rows), kThreads, 0,
         select_rows_kernel, static_cast<float*>(out.data), static_cast<const float*>(in.data),
         rows, out.columns);
}

}  // namespace sluice::cuda
