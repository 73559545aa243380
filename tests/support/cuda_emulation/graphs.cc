// Captures of one stream, and the graphs they become: lists of nodes, run in order.
#include <cuda_runtime_api.h>

#include "tests/support/cuda_emulation/capture.h"
#include "tests/support/cuda_emulation/device.h"

struct CUgraph_st {  // the names that CUDA's headers declare
  sluice::emulated::Nodes nodes;
};
struct CUgraphExec_st {
  int device = 0;
  std::shared_ptr<const sluice::emulated::Nodes> nodes;
};

using namespace sluice::emulated;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaStreamBeginCapture");
  if (handle == nullptr) {
    return answer(cudaErrorStreamCaptureUnsupported, "the default stream cannot be captured");
  }
  if (is_broken(stream->device())) return answer(cudaErrorLaunchFailure);
  const std::lock_guard lock(captures_mutex());
  if (stream->capture) return answer(cudaErrorIllegalState, "the stream is captured already");
  stream->capture = std::make_unique<Capture>();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaStreamEndCapture");
  *graph = nullptr;
  const std::lock_guard lock(captures_mutex());
  if (!stream->capture) return answer(cudaErrorIllegalState, "the stream is not captured");
  if (stream->capture->mode != cudaStreamCaptureModeRelaxed &&
      stream->capture->thread != std::this_thread::get_id()) {
    return answer(cudaErrorStreamCaptureWrongThread, "cudaStreamEndCapture");
  }
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  if (!capture->valid) return answer(cudaErrorStreamCaptureInvalidated, "cudaStreamEndCapture");
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return answer(cudaErrorInvalidResourceHandle, "cudaStreamIsCapturing");
  const std::lock_guard lock(captures_mutex());
  *status = !stream->capture         ? cudaStreamCaptureStatusNone
            : stream->capture->valid ? cudaStreamCaptureStatusActive
                                     : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return answer(cudaErrorInvalidValue, "cudaGraphInstantiate");
  *exec = new CUgraphExec_st{current_device(), std::make_shared<const Nodes>(graph->nodes)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr || exec == nullptr) {
    return answer(cudaErrorInvalidResourceHandle, "cudaGraphLaunch");
  }
  if (is_broken(stream->device())) return answer(cudaErrorLaunchFailure);
  if (exec->device != stream->device()) {
    return answer(cudaErrorInvalidValue, "cudaGraphLaunch: on a stream of another device");
  }
  stream->enqueue([nodes = exec->nodes] {
    for (const auto& node : *nodes) node();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr)
    return answer(cudaErrorNotSupported, "only the number of nodes is emulated");
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

}  // extern "C"
