#include "stage/departures.h"

#include <array>
#include <utility>

#include "comm/failure.h"

namespace sluice::stage {

void Departures::failed(std::exception_ptr cause) noexcept {
  {
    const std::lock_guard lock(mutex_);
    cause_ = cause;
  }
  // Between ranks of one process this returns, and the next call of the stage's thread throws.
  comm::fail_world(world_, cause);
}

std::exception_ptr Departures::cause() const {
  const std::lock_guard lock(mutex_);
  return cause_;
}

HiddenSender::HiddenSender(const StageLayout& layout, const Workspace& workspace,
                           comm::World& world, Trace& trace)
    : Departures(world, trace), layout_(layout), workspace_(workspace) {
  const auto buffers = static_cast<std::size_t>(layout.buffers());
  sending_.resize(buffers);
}

void HiddenSender::handle(const Departure& what) {
  const auto& piece = std::get<HiddenPiece>(what);
  const TensorView view = workspace_.outgoing[piece.buffer].slice(0, piece.rows);
  sending_[piece.buffer] =
      world_.send(comm::Route::hidden, layout_.topology().after(layout_.stage),
                  std::span(static_cast<const std::byte*>(view.data), view.bytes()));
  trace_.add_bytes(Activity::send, view.bytes());
}

void HiddenSender::wait_gone(std::size_t buffer) {
  if (sending_[buffer].index < 0) return;
  const ScopedSpan waiting(&trace_, Activity::send);
  world_.wait(std::exchange(sending_[buffer], {}));
}

void HiddenSender::drain() {
  for (std::size_t buffer = 0; buffer < sending_.size(); ++buffer) wait_gone(buffer);
}

HiddenSends::HiddenSends(const StageLayout& layout, const Workspace& workspace, Backend& backend,
                         comm::World& world, Trace& trace)
    : workspace_(workspace),
      backend_(backend),
      buffers_(layout.batching.num_gpu_batches),
      sender_(layout, workspace, world, trace),
      outbox_(backend, sender_, kOutboxCapacity),
      sent_(static_cast<std::size_t>(buffers_.count())) {}

Event HiddenSends::send(const Pass& pass, std::int32_t gpu_batch, TensorView hidden) {
  const std::size_t buffer = buffers_.of(pass.number, gpu_batch);
  outbox_.wait(sent_[buffer]);
  sender_.wait_gone(buffer);
  const TensorView target = workspace_.outgoing[buffer].slice(0, hidden.rows);
  backend_.wait(Lane::device_to_host, backend_.record(Lane::compute));
  backend_.copy(Lane::device_to_host, target.data, hidden.data, hidden.bytes());
  const Event copied = backend_.record(Lane::device_to_host);
  sent_[buffer] = outbox_.post({copied, HiddenPiece{buffer, hidden.rows}});
  return copied;
}

void HiddenSends::drain() {
  outbox_.wait_all();
  sender_.drain();
}

ResultSampler::ResultSampler(const StageLayout& layout, const Workspace& workspace,
                             comm::World& world, Trace& trace)
    : Departures(world, trace),
      layout_(layout),
      workspace_(workspace),
      sampler_(layout.device_samples ? 0 : layout.model.vocabulary,
               layout.batching.max_sequence_tokens, layout.batching.max_rule_words),
      histories_(workspace.histories,
                 layout.device_samples ? 0 : layout.batching.slots(layout.stages),
                 layout.batching.max_sequence_tokens, workspace.rules,
                 layout.batching.max_rule_words, layout.device_samples ? 0 : prefix_pages(layout)),
      grammars_(workspace.tokens, layout.device_samples ? 0 : layout.grammar_slots()),
      features_(workspace.feature_sums, layout.batching.features) {
  const Batching& batching = layout.batching;
  const auto most = static_cast<std::size_t>(batching.num_gpu_batches) *
                    static_cast<std::size_t>(batching.max_tokens_per_gpu_batch);
  for (Source& source : sources_) source.rows.reserve(most);
  results_.reserve(batching);
  message_.resize(max_results_bytes(batching));
}

void ResultSampler::handle(const Departure& what) {
  if (const auto* chunk = std::get_if<ResultsChunk>(&what)) {
    sample(sources_[chunk->pass], *chunk);
  } else if (const auto* first = std::get_if<ResultsBegin>(&what)) {
    begin(*sources_[first->pass].pass);
  } else {
    finish(*sources_[std::get<ResultsEnd>(what).pass].pass);
  }
}

void ResultSampler::begin(const Pass& pass) {
  results_.clear();
  results_.number = pass.number;
  results_.micro_batch = pass.micro_batch;
  refused_ = -1;
  if (layout_.device_samples) return;
  histories_.take(pass);
  grammars_.take(pass);
}

void ResultSampler::sample(const Source& source, const ResultsChunk& chunk) {
  std::int32_t features = 0;  // so far; they come behind the logits
  for (std::int32_t i = 0; i < chunk.count; ++i) {
    const LogitRow& wanted = source.rows[static_cast<std::size_t>(chunk.first + i)];
    const PassRow& row = source.pass->rows[static_cast<std::size_t>(wanted.row)];
    if (wanted.row == refused_) continue;
    if (wanted.is_feature) {
      features_.add(row, wanted.prompt_index,
                    workspace_.host_features[chunk.set].slice(features++, 1), results_);
      continue;
    }
    std::array<Candidate, kMaxLogprobs> top;
    const TokenResult result =
        layout_.device_samples
            ? result_of(workspace_.sampling.host_results[chunk.set][i], top)
            : sample_on_host(row, wanted, workspace_.host_logits[chunk.set].slice(i, 1));
    results_.add(row.slot, wanted.prompt_index, result);
    if (wanted.prompt_index < 0 && result.token != wanted.token) refused_ = wanted.row;
  }
}

TokenResult ResultSampler::sample_on_host(const PassRow& row, const LogitRow& wanted,
                                          TensorView logits) {
  const std::span<const float> line(static_cast<const float*>(logits.data),
                                    static_cast<std::size_t>(logits.columns));
  if (wanted.prompt_index >= 0) return sampler_.score(line, wanted.token, row.sampling.logprobs);
  SequenceSoFar so_far = histories_.so_far(row.slot, wanted.ahead);
  so_far.mask = grammars_.allowed(row, wanted.ahead, so_far.tokens);
  return sampler_.sample(line, row.sampling, so_far, sampled_position(row, wanted.ahead));
}

void ResultSampler::finish(const Pass& pass) {
  drain();
  sending_ =
      world_.send(comm::Route::results, layout_.topology().head(), encode(results_, message_));
  under_way_ = true;
  world_.step("sampled", pass.number, -1);
}

void ResultSampler::drain() {
  if (under_way_) world_.wait(sending_);
  under_way_ = false;
}

}  // namespace sluice::stage
