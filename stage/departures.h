// What an outbox does with finished work: hidden states go to the next stage; on the last stage
// logits become tokens, and the tokens go to the head.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "comm/world.h"
#include "kernels/device/trace.h"
#include "stage/outbox.h"
#include "stage/pass.h"
#include "stage/sample_rows.h"
#include "stage/sampler.h"
#include "stage/workspace.h"

namespace sluice::stage {

/// Ends the job when an outbox fails: what went wrong there is told to every rank.
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

/// Sends workspace.outgoing[item.buffer], item.count rows, to the next stage.
class HiddenSender : public Departures {
 public:
  HiddenSender(const StageLayout& layout, const Workspace& workspace, comm::World& world,
               Trace& trace);
  void handle(const OutboxItem& item) override;
  /// Blocks until what was last sent from this buffer is gone. Call after Outbox::wait for it.
  void wait_gone(std::int32_t buffer);
  void drain();

 private:
  const StageLayout& layout_;
  const Workspace& workspace_;
  /// By buffer; index -1: nothing under way. The outbox's thread writes an element, the executor
  /// reads it after Outbox::wait for that buffer's ticket.
  std::vector<comm::Transfer> sending_;
};

/// Samples and scores, where the device did not (StageLayout::device_samples), and answers the
/// head. Items of a pass: one kBegin, any number of kLogits, one
/// kFinish.
class ResultSampler : public Departures {
 public:
  enum Kind : std::int32_t { kBegin, kLogits, kFinish };

  ResultSampler(const StageLayout& layout, const Workspace& workspace, comm::World& world,
                Trace& trace);

  /// The pass and the logit rows that items with this `buffer` (pass.number % 2) speak of; both
  /// must stay as they are until its kFinish was handled. Set before kBegin is posted.
  struct Source {
    const Pass* pass = nullptr;
    std::vector<LogitRow> rows;  // of the whole pass, GPU batch by GPU batch
  };
  Source& source(std::int64_t pass_number) { return sources_[pass_number % 2]; }

  /// kLogits: rows [first, first + count) of the source; logits in
  /// workspace.host_logits[gpu_batch], or results in workspace.sampling.host_results[gpu_batch].
  void handle(const OutboxItem& item) override;
  /// Blocks until the last answer is gone.
  void drain();

 private:
  void begin(const Pass& pass);
  void sample(const Source& source, const OutboxItem& item);
  TokenResult sample_on_host(const PassRow& row, const LogitRow& wanted, TensorView logits);
  void finish(const Pass& pass);

  const StageLayout& layout_;
  const Workspace& workspace_;
  Sampler sampler_;
  Source sources_[2];
  Histories histories_;  // not kept where the device samples
  PassResults results_;
  std::vector<std::byte> message_;
  comm::Transfer sending_;
  bool under_way_ = false;
};

}  // namespace sluice::stage
