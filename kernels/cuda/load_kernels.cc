#include "kernels/cuda/load_kernels.h"

#include <cuda_runtime_api.h>

#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/driver.h"
#include "kernels/cuda/launches.h"

namespace sluice::cuda {

namespace {

using GetModule = CUresult (*)(CUmodule*, CUfunction);
using GetCount = CUresult (*)(unsigned*, CUmodule);
using Enumerate = CUresult (*)(CUfunction*, unsigned, CUmodule);
using Load = CUresult (*)(CUfunction);

}  // namespace

int load_kernels() {
  const auto get_module = reinterpret_cast<GetModule>(driver_function("cuFuncGetModule", 12000));
  const auto get_count =
      reinterpret_cast<GetCount>(driver_function("cuModuleGetFunctionCount", 12040));
  const auto enumerate =
      reinterpret_cast<Enumerate>(driver_function("cuModuleEnumerateFunctions", 12040));
  const auto load = reinterpret_cast<Load>(driver_function("cuFuncLoad", 12040));
  int loaded = 0;
  // Each source file is a module.
  for (const void* const kernel :
       {kernel_of_attention(), kernel_of_experts(), kernel_of_prefill_attention(),
        kernel_of_sparse_attention(), kernel_of_products(), kernel_of_rows(), kernel_of_sample()}) {
    cudaFunction_t function = nullptr;
    check(cudaGetFuncBySymbol(&function, kernel), "cudaGetFuncBySymbol");
    CUmodule module = nullptr;
    check_driver(get_module(&module, function), "cuFuncGetModule");
    unsigned count = 0;
    check_driver(get_count(&count, module), "cuModuleGetFunctionCount");
    std::vector<CUfunction> functions(count);
    check_driver(enumerate(functions.data(), count, module), "cuModuleEnumerateFunctions");
    for (const CUfunction one : functions) check_driver(load(one), "cuFuncLoad");
    loaded += static_cast<int>(count);
  }
  return loaded;
}

}  // namespace sluice::cuda
