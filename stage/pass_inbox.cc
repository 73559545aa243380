#include "stage/pass_inbox.h"

#include <algorithm>

#include "stage/pass_check.h"

namespace sluice::stage {

PassInbox::PassInbox(const StageLayout& layout, const Workspace& workspace, comm::World& world,
                     comm::DeviceChannel* channel, Backend& backend, Trace& trace)
    : layout_(layout),
      workspace_(workspace),
      world_(world),
      channel_(channel),
      backend_(backend),
      trace_(trace),
      buffers_(layout.batching.num_gpu_batches) {
  incoming_.resize(max_pass_bytes(layout.batching, layout.stages));
  for (Forward& forward : forwards_) forward.header.resize(incoming_.size());
  receiving_.resize(static_cast<std::size_t>(layout.buffers()));
  arriving_.resize(receiving_.size());
  consumed_.resize(static_cast<std::size_t>(layout.buffers()));
  for (Pass& pass : passes_) pass.reserve(layout.batching, layout.stages);
  post_header();
}

void PassInbox::post_header() {
  header_ =
      world_.receive(comm::Route::passes, layout_.topology().before(layout_.stage), incoming_);
  expecting_ = true;
}

const Pass& PassInbox::next() {
  if (arrived_ == taken_) {
    const ScopedSpan idle(&trace_, Activity::idle);
    take_header(world_.wait(header_));
  }
  return passes_[taken_++ % kPasses];
}

void PassInbox::poll() {
  std::size_t bytes = 0;
  // One pass ahead is enough. A second one would need buffers of passes that are still leaving.
  if (!expecting_ || arrived_ > taken_ || !world_.done(header_, &bytes)) return;
  take_header(bytes);
}

void PassInbox::take_header(std::size_t bytes) {
  expecting_ = false;
  Pass& pass = passes_[arrived_ % kPasses];
  const std::span<const std::byte> header = std::span<const std::byte>(incoming_).first(bytes);
  decode(header, pass);
  check_pass(pass, layout_.batching, layout_.stages, layout_.model.vocabulary);
  if (!layout_.last()) forward(header);
  ++arrived_;
  if (pass.end) return;
  if (!layout_.first()) post_hidden(pass);
  post_header();
}

void PassInbox::forward(std::span<const std::byte> header) {
  Forward& next = forwards_[arrived_];
  if (next.under_way) world_.wait(next.transfer);
  std::copy(header.begin(), header.end(), next.header.begin());
  next.transfer = world_.send(comm::Route::passes, layout_.topology().after(layout_.stage),
                              std::span<const std::byte>(next.header).first(header.size()));
  next.under_way = true;
  if (passes_[arrived_ % kPasses].end) {  // the last one: both must be gone before the buffers go
    for (const Forward& forward : forwards_) {
      if (forward.under_way) world_.wait(forward.transfer);
    }
  }
}

void PassInbox::post_hidden(const Pass& pass) {
  for (std::int32_t g = 0; g < layout_.batching.num_gpu_batches; ++g) {
    const std::int32_t tokens = pass.batch_tokens[static_cast<std::size_t>(g)];
    if (tokens == 0) continue;
    const std::size_t buffer = buffers_.of(pass.number, g);
    post(buffer, workspace_.received[buffer].slice(0, tokens));
  }
}

void PassInbox::post(std::size_t buffer, const TensorView& target) {
  if (channel_ == nullptr) {
    backend_.synchronize(consumed_[buffer]);
    receiving_[buffer] =
        world_.receive(comm::Route::hidden, layout_.topology().before(layout_.stage),
                       std::span(static_cast<std::byte*>(target.data), target.bytes()));
    return;
  }
  // In the order of GPU batches, as they are sent; of a GPU batch without rows, and of the pass
  // that ends the job, nothing is sent. The receive keeps a part of the device busy from now on
  // (the lane's first one, that is: those behind it are not begun), which is why only one pass is
  // posted ahead of the present one.
  backend_.wait(Lane::receive, consumed_[buffer]);
  channel_->receive(target.data, target.bytes());
  arriving_[buffer] = backend_.record(Lane::receive);
}

TensorView PassInbox::hidden(const Pass& pass, std::int32_t gpu_batch) {
  const std::size_t buffer = buffers_.of(pass.number, gpu_batch);
  const TensorView view =
      workspace_.received[buffer].slice(0, pass.batch_tokens[static_cast<std::size_t>(gpu_batch)]);
  if (channel_ != nullptr) {
    backend_.wait(Lane::compute, arriving_[buffer]);
    trace_.add_bytes(Activity::receive, view.bytes());
    return view;
  }
  const ScopedSpan span(&trace_, Activity::receive, static_cast<std::int32_t>(pass.number));
  const std::size_t bytes = world_.wait(receiving_[buffer]);
  if (bytes != view.bytes()) {
    throw CommError("hidden states of pass " + std::to_string(pass.number) + " came with " +
                    std::to_string(bytes) + " bytes instead of " + std::to_string(view.bytes()));
  }
  trace_.add_bytes(Activity::receive, bytes);
  return view;
}

void PassInbox::consumed(const Pass& pass, std::int32_t gpu_batch, Event event) {
  consumed_[buffers_.of(pass.number, gpu_batch)] = event;
}

}  // namespace sluice::stage
