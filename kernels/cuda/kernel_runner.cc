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
    case OpKind::rms_norm:
      return launch_rms_norm(stream, call.out, call.in, call.scale, call.number, call.offset);
    case OpKind::rotate:
      return launch_rotate(stream, call.out, call.rotation, call.ids);
    case OpKind::scale:
      return launch_scale(stream, call.out, call.number);
    case OpKind::soft_cap:
      return launch_soft_cap(stream, call.out, call.number);
    case OpKind::add:
      return launch_epilogue(stream, Columns::of(call.out), Columns::of(call.out),
                             {{}, kernels::Activation::none, Columns::of(call.in)});
    case OpKind::widen_rows:
      return launch_widen_rows(stream, call.out, call.in);
    case OpKind::clear:
      return launch_clear(stream, call.out);
    case OpKind::clamp:
      return launch_clamp(stream, call.out, call.number);
    case OpKind::route:
      return launch_route(stream, call.routed, call.in, call.bias, call.router);
    case OpKind::add_rows:
      return launch_add_rows(stream, call.out, call.in, call.where);
    case OpKind::linear:
      return products_.linear(stream, call.out, call.in, call.weight, call.bias, call.activation,
                              call.residual);
    case OpKind::linear_times:
      return products_.linear(stream, call.out, call.in, call.weight, call.bias, call.activation,
                              call.residual, Combine::multiply);
    case OpKind::append_kv:
      return launch_append_kv(stream, call.cache, call.batch, call.in, call.scale);
    case OpKind::attention:
      return launch_attention(stream, call.out, call.in, call.cache, call.batch, call.rule,
                              attention_);
    case OpKind::sample:
      return launch_sample(stream, call.sampled, call.in, call.sample_rows, call.sample_lists,
                           reinterpret_cast<float*>(workspace_.data() + Products::kWorkspaceBytes +
                                                    kAttentionScratchBytes),
                           kSampleBytes);
  }
}

}  // namespace sluice::cuda
