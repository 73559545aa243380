// Collects operations and puts them on a stream together. A sequence that came before goes as one
// CUDA graph. A decode step of a small model is hundreds of kernels of a few microseconds, and
// launching them one by one takes as long as they run.
//
// Two sequences of calls are the same when every argument is (OpCall's ==): pointers, shapes, all
// of it. What changes from step to step (token ids, positions, page tables) lies behind the
// pointers.
//
// Sequences come in rounds, one for each token. So the one that was not used for longest is the one
// that comes next, and must not make room: with one sequence too many in a round, none would be
// there when it comes. A sequence keeps its place until it has missed several of its own rounds.
// Of a round too long for the table, a part is replayed and the rest is launched.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/cuda/kernel_runner.h"
#include "kernels/cuda/op_call.h"

namespace sluice::cuda {

class CallGraphs {
 public:
  /// Calls collected at most, so that a long step does not keep the GPU waiting for all of it.
  static constexpr std::size_t kMostCalls = 512;
  /// Shorter sequences are launched one by one: a graph's own launch costs as much.
  static constexpr std::size_t kFewestCalls = 4;
  /// Rows of activations beyond which launching costs nothing beside computing.
  static constexpr std::int64_t kMostRows = 256;
  /// Sequences remembered, and calls in them. A model whose cache lies in the host makes two or
  /// three sequences of a layer, each of a few calls.
  static constexpr std::size_t kMostKept = 256;
  static constexpr std::size_t kMostKeptCalls = 64 * kMostCalls;

  struct Counts {
    std::uint64_t replayed = 0;  // sequences put as a graph
    std::uint64_t captured = 0;  // graphs made
    std::uint64_t launched = 0;  // sequences put call by call
  };

  /// `runner` must outlive this. One stream's thread at a time. Without `enabled` every call is
  /// launched by itself.
  CallGraphs(KernelRunner& runner, bool enabled);
  ~CallGraphs();
  CallGraphs(const CallGraphs&) = delete;
  CallGraphs& operator=(const CallGraphs&) = delete;

  /// True: there is no room for another; put() must come first.
  bool add(const OpCall& call);
  bool empty() const { return pending_.empty(); }
  /// Puts what was added on `stream`, in order, and forgets it. A sequence is captured when it
  /// comes the second time. Throws DeviceError where a launch is refused.
  void put(cudaStream_t stream);

  const Counts& counts() const { return counts_; }

 private:
  struct Kept;

  bool worth_a_graph() const;
  Kept* find();
  void keep();
  bool make_room();
  void launch_all(cudaStream_t stream);
  void capture(Kept& kept);

  KernelRunner& runner_;
  bool enabled_;
  cudaStream_t capture_stream_ = nullptr;  // its own: nobody else's work gets into a graph
  std::vector<OpCall> pending_;
  std::uint64_t hash_ = 0;  // of pending_: narrows the search, equality decides
  std::int64_t most_rows_ = 0;
  std::uint64_t now_ = 0;  // sequences so far that were worth a graph
  std::vector<std::unique_ptr<Kept>> kept_;
  std::size_t kept_calls_ = 0;
  Counts counts_;
};

}  // namespace sluice::cuda
