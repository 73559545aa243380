// What an outbox does with finished work: hidden states go to the next stage; on the last stage
// logits become tokens, and the tokens go to the head.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "comm/world.h"
#include "kernels/device/trace.h"
#include "stage/features.h"
#include "stage/grammar_rows.h"
#include "stage/outbox.h"
#include "stage/pass.h"
#include "stage/pass_buffers.h"
#include "stage/sample_rows.h"
#include "stage/sampler.h"
#include "stage/workspace.h"

namespace sluice::stage {

/// Ends the job when an outbox fails, and tells every rank why.
class Departures : public OutboxHandler {
 public:
  Departures(comm::World& world, Trace& trace) : world_(world), trace_(trace) {}
  void failed(std::exception_ptr cause) noexcept override;
  /// What failed() was told; null: nothing. Any thread.
  std::exception_ptr cause() const;

 protected:
  comm::World& world_;
  Trace& trace_;

 private:
  mutable std::mutex mutex_;
  std::exception_ptr cause_;
};

/// Sends each HiddenPiece to the next stage.
class HiddenSender : public Departures {
 public:
  HiddenSender(const StageLayout& layout, const Workspace& workspace, comm::World& world,
               Trace& trace);
  void handle(const Departure& what) override;
  /// Blocks until what was last sent from this buffer is gone. Call after Outbox::wait for it.
  void wait_gone(std::size_t buffer);
  void drain();

 private:
  const StageLayout& layout_;
  const Workspace& workspace_;
  /// By buffer; index -1: nothing under way. The outbox's thread writes an element, the executor
  /// reads it after Outbox::wait for that buffer's ticket.
  std::vector<comm::Transfer> sending_;
};

/// Hidden states on their way to the next stage, by the host: copied to host memory on
/// Lane::device_to_host, then sent by an outbox.
class HiddenSends {
 public:
  HiddenSends(const StageLayout& layout, const Workspace& workspace, Backend& backend,
              comm::World& world, Trace& trace);

  /// Sends `hidden` as it is after the work now on Lane::compute. Blocks until the message of two
  /// passes ago is gone. Returns when `hidden` may be overwritten.
  Event send(const Pass& pass, std::int32_t gpu_batch, TensorView hidden);
  /// Blocks until everything has left.
  void drain();
  std::exception_ptr failure() const { return sender_.cause(); }

 private:
  const Workspace& workspace_;
  Backend& backend_;
  const PassBuffers buffers_;
  HiddenSender sender_;
  Outbox outbox_;
  std::vector<Outbox::Ticket> sent_;  // by buffer
};

/// Samples and scores, where the device did not (StageLayout::device_samples), and answers the
/// head. Of a pass come one ResultsBegin, any number of ResultsChunk, one ResultsEnd.
class ResultSampler : public Departures {
 public:
  ResultSampler(const StageLayout& layout, const Workspace& workspace, comm::World& world,
                Trace& trace);

  /// The pass and its logit rows, which must stay as they are until its ResultsEnd was handled. Set
  /// before its ResultsBegin is posted.
  struct Source {
    const Pass* pass = nullptr;
    std::vector<LogitRow> rows;  // of the whole pass, GPU batch by GPU batch
  };
  Source& source(std::int64_t pass_number) { return sources_[pass_number]; }

  /// The logits of a chunk are in workspace.host_logits, or its results in
  /// workspace.sampling.host_results; the features of its last rows in workspace.host_features.
  void handle(const Departure& what) override;
  /// Blocks until the last answer is gone.
  void drain();

 private:
  void begin(const Pass& pass);
  void sample(const Source& source, const ResultsChunk& chunk);
  TokenResult sample_on_host(const PassRow& row, const LogitRow& wanted, TensorView logits);
  void finish(const Pass& pass);

  const StageLayout& layout_;
  const Workspace& workspace_;
  Sampler sampler_;
  PerPass<Source> sources_;
  // Where the host samples:
  Histories histories_;
  GrammarRows grammars_;
  FeatureSums features_;
  PassResults results_;
  std::int32_t refused_ = -1;  // the row, of the pass, whose further guesses follow a wrong one
  std::vector<std::byte> message_;
  comm::Transfer sending_;
  bool under_way_ = false;
};

}  // namespace sluice::stage
