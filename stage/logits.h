// The last stage's part of a pass: which rows' logits are wanted, the output head over them, a
// chunk at a time, and the way of logits, or of what the device sampled from them, to the sampler.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <vector>

#include "kernels/ops.h"
#include "offload/weights/weight_stream.h"
#include "stage/decoder.h"
#include "stage/departures.h"
#include "stage/grammar_rows.h"
#include "stage/pass_indices.h"

namespace sluice::stage {

class Logits {
 public:
  /// All must outlive it.
  Logits(const StageLayout& layout, const Workspace& workspace, kernels::Engine& engine,
         comm::World& world, Trace& trace);

  /// Lists the wanted rows, also in the pass's index arrays. Blocks until the results of two passes
  /// ago have left. `pass` must not change until its own results have left.
  void begin(const Pass& pass, const PassIndices& indices);
  /// Puts the head over a chunk of the wanted rows of `hidden` on Lane::compute and sends its
  /// results on their way. Blocks while both host sets are being sampled from.
  void run(const Pass& pass, std::int32_t gpu_batch, std::int32_t chunk,
           const offload::WeightStream::Lease& weights, TensorView hidden,
           const IndexBuffers& indices);
  /// After the last run() of a pass: its results leave when they are there.
  void end(const Pass& pass);
  /// Blocks until all results have left.
  void drain();
  std::exception_ptr failure() const { return sampler_.cause(); }

 private:
  void add_features(const Pass& pass, std::int32_t gpu_batch, std::int32_t* rows);
  void add_rows(const Pass& pass, std::int32_t row_index, const std::int32_t* tokens,
                std::int32_t* rows, std::int32_t& count);
  void upload_samples(const Pass& pass, std::size_t set, std::int32_t first, std::int32_t count);
  void take_home(const HeadRows& head, std::size_t set);

  const StageLayout& layout_;
  const Workspace& workspace_;
  Backend& backend_;
  kernels::Ops& ops_;
  ResultSampler sampler_;
  // Where the device samples:
  Histories histories_;
  GrammarRows grammars_;
  TokenEdits edits_;
  Outbox outbox_;
  /// By GPU batch, in the sampler's source; of count_ the last ones are wanted without logits.
  std::vector<std::int32_t> first_, count_, features_;
  PerPass<Outbox::Ticket> ended_;
  std::array<Outbox::Ticket, 2> taken_;  // by set of host logits or results
  Event copied_;                         // device logits or results may be overwritten
  std::uint64_t used_ = 0;               // sets used so far
};

}  // namespace sluice::stage
