#include "kernels/cuda/library_product.h"

#include "kernels/cuda/check.h"

namespace sluice::cuda {

namespace {

/// More than a stage has shapes of weights; what varies is the number of rows.
constexpr std::size_t kRecipes = 256;

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

std::uint64_t size(std::int64_t number) { return static_cast<std::uint64_t>(number); }

cublasLtMatrixLayout_t make_layout(DType dtype, std::int64_t rows, std::int64_t columns,
                                   std::int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), size(rows), size(columns), stride),
        "cublasLtMatrixLayoutCreate");
  return layout;
}

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
}

template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

/// Whether that is an answer rather than a failure.
bool is_refusal(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH;
}

cublasLtMatmulDesc_t make_operation(const LibraryCall& call, const void* bias,
                                    cublasComputeType_t compute) {
  cublasLtMatmulDesc_t operation = nullptr;
  check(cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (call.relu) epilogue = CUBLASLT_EPILOGUE_RELU;
  if (call.bias) epilogue = call.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (call.bias) {
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(call.result));
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  return operation;
}

}  // namespace

LibraryProduct::LibraryProduct(std::byte* workspace, std::size_t workspace_bytes)
    : workspace_(workspace), workspace_bytes_(workspace_bytes), recipes_(kRecipes) {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  handle_.reset(handle);
}

LibraryProduct::Recipe LibraryProduct::make(const LibraryCall& call, const void* bias) {
  if (call.operand == DType::f32) {
    Recipe exact = make(call, bias, CUBLAS_COMPUTE_32F_PEDANTIC);
    if (exact.possible) return exact;
  }
  return make(call, bias, CUBLAS_COMPUTE_32F);  // of f32, too: TF32 is another type
}

LibraryProduct::Recipe LibraryProduct::make(const LibraryCall& call, const void* bias,
                                            cublasComputeType_t compute) {
  Recipe recipe;
  recipe.operation.reset(make_operation(call, bias, compute));
  recipe.weight.reset(make_layout(call.operand, call.depth, call.columns, call.depth));
  recipe.in.reset(make_layout(call.operand, call.depth, call.rows, call.depth));
  recipe.out.reset(make_layout(call.result, call.columns, call.rows, call.out_stride));

  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference(made);
  set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes_});
  // Parts of sums are not added in 16 bits.
  set(made, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, call.weight_alignment);
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, call.in_alignment);
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, call.residual_alignment);
  set(made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, call.out_alignment);
  cublasLtMatmulHeuristicResult_t best = {};
  int found = 0;
  ++asked_;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), recipe.operation.get(), recipe.weight.get(), recipe.in.get(), recipe.out.get(),
      recipe.out.get(), made, 1, &best, &found);
  if (is_refusal(status)) return recipe;
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  recipe.algorithm = best.algo;
  recipe.possible = found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  return recipe;
}

bool LibraryProduct::run(cudaStream_t stream, LibraryCall call, const Operands& operands) {
  call.weight_alignment = alignment_of(operands.weight);
  call.in_alignment = alignment_of(operands.in);
  call.out_alignment = alignment_of(operands.out);
  const void* const added = call.residual ? operands.residual : operands.out;
  call.residual_alignment = alignment_of(added);
  call.in_place = added == operands.out;
  Recipe& recipe = recipes_.find_or_make(call, [&] { return make(call, operands.bias); });
  if (!recipe.possible) return false;
  if (call.bias) {
    set(recipe.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
  }
  const float one = 1.0F;
  const float beta = call.residual ? 1.0F : 0.0F;
  const cublasStatus_t status = cublasLtMatmul(
      handle_.get(), recipe.operation.get(), &one, operands.weight, recipe.weight.get(),
      operands.in, recipe.in.get(), &beta, added, recipe.out.get(), operands.out, recipe.out.get(),
      &recipe.algorithm, workspace_, workspace_bytes_, stream);
  recipe.possible = !is_refusal(status);
  if (!recipe.possible) return false;
  check(status, "cublasLtMatmul");
  return true;
}

}  // namespace sluice::cuda
