#include "kernels/cuda/call_graphs.h"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

struct CallGraphs::Kept {
  std::vector<OpCall> calls;
  std::uint64_t hash = 0;
  std::uint64_t last_use = 0;
  cudaGraphExec_t graph = nullptr;  // null: seen once, or cannot be captured
  bool refused = false;

  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
};

namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  return (hash ^ value) * 0x9e3779b97f4a7c15ULL + (hash >> 29U);
}

/// Of the arguments that differ where calls do: which layer, which rows.
std::uint64_t add_to_hash(std::uint64_t hash, const OpCall& call) {
  const auto number = [](const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); };
  hash = mix(hash, static_cast<std::uint64_t>(call.kind) | number(call.out.data) << 8U);
  hash = mix(hash, static_cast<std::uint64_t>(call.in.rows) ^ number(call.in.data));
  hash = mix(hash, number(call.weight.resident.data) ^ number(call.weight.streamed.data));
  return mix(hash, number(call.cache.base) ^ static_cast<std::uint64_t>(call.batch.sequences));
}

/// A graph of what is put on a stream while this lives.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    // Other threads may allocate or wait meanwhile.
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
  }
  ~Capture() {
    if (ended_) return;
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // a capture that failed leaves nothing behind
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraphExec_t finish() {
    ended_ = true;
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t made = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&made, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "cudaGraphInstantiate");
    return made;
  }

 private:
  cudaStream_t stream_;
  bool ended_ = false;
};

}  // namespace

CallGraphs::CallGraphs(KernelRunner& runner, bool enabled) : runner_(runner), enabled_(enabled) {
  pending_.reserve(kMostCalls);
  kept_.reserve(kMostKept);
  check(cudaStreamCreateWithFlags(&capture_stream_, cudaStreamNonBlocking),
        "cudaStreamCreateWithFlags");
}

CallGraphs::~CallGraphs() { cudaStreamDestroy(capture_stream_); }

bool CallGraphs::add(const OpCall& call) {
  pending_.push_back(call);
  hash_ = add_to_hash(hash_, call);
  most_rows_ = std::max({most_rows_, call.out.rows, call.in.rows});
  return !enabled_ || pending_.size() == kMostCalls;
}

void CallGraphs::put(cudaStream_t stream) {
  if (pending_.empty()) return;
  Kept* const kept = worth_a_graph() ? find() : nullptr;
  if (kept != nullptr && kept->graph == nullptr && !kept->refused) capture(*kept);
  if (kept != nullptr && kept->graph != nullptr) {
    check(cudaGraphLaunch(kept->graph, stream), "cudaGraphLaunch");
    ++counts_.replayed;
  } else {
    if (kept == nullptr && worth_a_graph()) keep();
    launch_all(stream);
    ++counts_.launched;
  }
  pending_.clear();
  hash_ = 0;
  most_rows_ = 0;
}

bool CallGraphs::worth_a_graph() const {
  return enabled_ && pending_.size() >= kFewestCalls && most_rows_ <= kMostRows;
}

CallGraphs::Kept* CallGraphs::find() {
  for (const std::unique_ptr<Kept>& kept : kept_) {
    if (kept->hash != hash_ || kept->calls != pending_) continue;
    kept->last_use = ++uses_;
    return kept.get();
  }
  return nullptr;
}

void CallGraphs::keep() {
  if (kept_.size() == kMostKept) {
    // Its graph may still run: the driver keeps what a launch under way needs.
    kept_.erase(std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
      return a->last_use < b->last_use;
    }));
  }
  auto made = std::make_unique<Kept>();
  made->calls = pending_;
  made->hash = hash_;
  made->last_use = ++uses_;
  kept_.push_back(std::move(made));
}

void CallGraphs::launch_all(cudaStream_t stream) {
  for (const OpCall& call : pending_) runner_.run(stream, call);
}

void CallGraphs::capture(Kept& kept) {
  kept.refused = true;  // unless it goes well; what cannot be captured is launched, and says why
  try {
    Capture capture(capture_stream_);
    launch_all(capture_stream_);
    kept.graph = capture.finish();
  } catch (const DeviceError&) {
    cudaGetLastError();  // or the next launch would be told of it
    return;
  }
  kept.refused = false;
  ++counts_.captured;
}

}  // namespace sluice::cuda
