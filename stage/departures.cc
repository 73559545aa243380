#include "stage/departures.h"

#include <utility>

namespace sluice::stage {

void Departures::failed(std::exception_ptr cause) noexcept {
  {
    const std::lock_guard lock(mutex_);
    cause_ = cause;
  }
  // Over MPI fail() ends the process. In-process worlds throw from it, having told the other ranks
  // and this one's stage thread, whose next call throws.
  try {
    try {
      std::rethrow_exception(cause);
    } catch (const Error& error) {
      world_.fail(error.status(), error.what());
    } catch (const std::exception& error) {
      world_.fail(ExitStatus::failure, error.what());
    }
  } catch (...) {
  }
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

void HiddenSender::handle(const OutboxItem& item) {
  const auto buffer = static_cast<std::size_t>(item.buffer);
  const TensorView view = workspace_.outgoing[buffer].slice(0, item.count);
  sending_[buffer] = world_.send(comm::Route::hidden, layout_.stage + 1,
                                 std::span(static_cast<const std::byte*>(view.data), view.bytes()));
  trace_.add_bytes(Activity::send, view.bytes());
}

void HiddenSender::wait_gone(std::int32_t buffer_index) {
  const auto buffer = static_cast<std::size_t>(buffer_index);
  if (sending_[buffer].index < 0) return;
  const ScopedSpan waiting(&trace_, Activity::send);
  world_.wait(std::exchange(sending_[buffer], {}));
}

void HiddenSender::drain() {
  for (std::int32_t buffer = 0; buffer < layout_.buffers(); ++buffer) wait_gone(buffer);
}

ResultSampler::ResultSampler(const StageLayout& layout, const Workspace& workspace,
                             comm::World& world, Trace& trace)
    : Departures(world, trace),
      layout_(layout),
      workspace_(workspace),
      sampler_(layout.device_samples ? 0 : layout.model.vocabulary),
      histories_(layout.device_samples ? 0 : layout.batching.slots(layout.stages),
                 layout.batching.max_sequence_tokens) {
  const Batching& batching = layout.batching;
  const auto most = static_cast<std::size_t>(batching.num_gpu_batches) *
                    static_cast<std::size_t>(batching.max_tokens_per_gpu_batch);
  for (Source& source : sources_) source.rows.reserve(most);
  results_.entries.reserve(most);
  message_.resize(max_results_bytes(batching));
}

void ResultSampler::handle(const OutboxItem& item) {
  const Source& source = sources_[item.buffer];
  switch (static_cast<Kind>(item.kind)) {
    case kBegin:
      return begin(*source.pass);
    case kLogits:
      return sample(source, item);
    case kFinish:
      return finish(*source.pass);
  }
}

void ResultSampler::begin(const Pass& pass) {
  results_.clear();
  results_.number = pass.number;
  results_.micro_batch = pass.micro_batch;
  if (!layout_.device_samples) histories_.take(pass);
}

void ResultSampler::sample(const Source& source, const OutboxItem& item) {
  for (std::int32_t i = 0; i < item.count; ++i) {
    const LogitRow& wanted = source.rows[static_cast<std::size_t>(item.first + i)];
    const PassRow& row = source.pass->rows[static_cast<std::size_t>(wanted.row)];
    PassResult& entry = results_.entries.emplace_back();
    entry.slot = row.slot;
    entry.prompt_index = wanted.prompt_index;
    entry.result =
        layout_.device_samples
            ? result_of(workspace_.sampling.host_results[item.gpu_batch][i])
            : sample_on_host(row, wanted, workspace_.host_logits[item.gpu_batch].slice(i, 1));
    entry.failed = entry.result.token < 0;
  }
}

TokenResult ResultSampler::sample_on_host(const PassRow& row, const LogitRow& wanted,
                                          TensorView logits) {
  const std::span<const float> line(static_cast<const float*>(logits.data),
                                    static_cast<std::size_t>(logits.columns));
  if (wanted.prompt_index >= 0) return sampler_.score(line, wanted.token, row.sampling.logprobs);
  return sampler_.sample(line, row.sampling, histories_.of(row.slot), sampled_position(row));
}

void ResultSampler::finish(const Pass& pass) {
  drain();
  sending_ = world_.send(comm::Route::results, 0, encode(results_, message_));
  under_way_ = true;
  world_.step("sampled", pass.number, -1);
}

void ResultSampler::drain() {
  if (under_way_) world_.wait(sending_);
  under_way_ = false;
}

}  // namespace sluice::stage
