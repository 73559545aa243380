#include "kernels/cuda/call_graphs.h"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/device/error.h"

namespace sluice::cuda {

struct CallGraphs::Kept {
  std::vector<OpCall> calls;
  std::uint64_t hash = 0;
  std::uint64_t last_use = 0;
  std::uint64_t period = 0;         // between its last two uses
  cudaGraphExec_t graph = nullptr;  // null: seen once, or cannot be captured
  bool refused = false;

  /// How long past the end of its patience: the larger, the better a place it gives up. 0: it may
  /// still come.
  std::uint64_t overdue(std::uint64_t now) const {
    constexpr std::uint64_t kRounds = 4;
    const std::uint64_t patience = kRounds * std::max<std::uint64_t>(period, kMostKept);
    const std::uint64_t age = now - last_use;
    return age > patience ? age - patience : 0;
  }

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
  // An RMS norm may take every head for a row.
  if (call.kind != OpKind::rms_norm) {
    most_rows_ = std::max({most_rows_, call.out.rows, call.in.rows});
  }
  return !enabled_ || pending_.size() == kMostCalls;
}

void CallGraphs::put(cudaStream_t stream) {
  if (pending_.empty()) return;
  const bool worth_it = worth_a_graph();
  if (worth_it) ++now_;
  Kept* const kept = worth_it ? find() : nullptr;
  if (kept != nullptr && kept->graph == nullptr && !kept->refused) capture(*kept);
  if (kept != nullptr && kept->graph != nullptr) {
    check(cudaGraphLaunch(kept->graph, stream), "cudaGraphLaunch");
    ++counts_.replayed;
  } else {
    if (kept == nullptr && worth_it) keep();
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
    kept->period = now_ - kept->last_use;
    kept->last_use = now_;
    return kept.get();
  }
  return nullptr;
}

/// False: everything that is kept may still come.
bool CallGraphs::make_room() {
  while (kept_.size() == kMostKept || kept_calls_ + pending_.size() > kMostKeptCalls) {
    const auto stalest = std::max_element(
        kept_.begin(), kept_.end(),
        [this](const auto& a, const auto& b) { return a->overdue(now_) < b->overdue(now_); });
    if ((*stalest)->overdue(now_) == 0) return false;
    kept_calls_ -= (*stalest)->calls.size();
    // Its graph may still run: the driver keeps what a launch under way needs.
    kept_.erase(stalest);
  }
  return true;
}

void CallGraphs::keep() {
  if (!make_room()) return;
  auto made = std::make_unique<Kept>();
  made->calls = pending_;
  made->hash = hash_;
  made->last_use = now_;
  kept_calls_ += made->calls.size();
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
