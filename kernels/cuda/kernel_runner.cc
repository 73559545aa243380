#include "kernels/cuda/kernel_runner.h"

#include <utility>

#include "kernels/cuda/launches.h"

namespace sluice::cuda {

KernelRunner::KernelRunner(Memory workspace)
    : workspace_(std::move(workspace)),
      products_(workspace_.data()),
      attention_(attention_resources(workspace_.data() + Products::kWorkspaceBytes,
                                     kAttentionScratchBytes)) {
  prepare_attention();
}

void KernelRunner::run(cudaStream_t stream, const OpCall& call) {
  switch (call.kind) {
    case OpKind::gather:
      return launch_gather(stream, call.out, call.weight, call.ids, false);
    case OpKind::gather_add:
      return launch_gather(stream, call.out, call.weight, call.ids, true);
    case OpKind::select_rows:
      return launch_select_rows(stream, call.out, call.in, call.ids);
    case OpKind::layer_norm:
      return launch_layer_norm(stream, call.out, call.in, call.scale, call.bias, call.number);
    case OpKind::linear:
      return products_.linear(stream, call.out, call.in, call.weight, call.bias, call.activation,
                              call.residual);
    case OpKind::append_kv:
      return launch_append_kv(stream, call.cache, call.batch, call.in, call.scale);
    case OpKind::attention:
      return launch_attention(stream, call.out, call.in, call.cache, call.batch, call.rule,
                              attention_);
    case OpKind::sample:
      return launch_sample(stream, call.sampled, call.in, call.sample_rows, call.ids,
                           reinterpret_cast<float*>(workspace_.data() + Products::kWorkspaceBytes +
                                                    kAttentionScratchBytes),
                           kSampleBytes);
  }
}

}  // namespace sluice::cuda
